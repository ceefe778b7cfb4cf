package virtio

// loadEvent reads a 16-bit field that the other side writes, with acquire.
//
//go:noescape
func loadEvent(p *uint16) uint16

// storeEvent writes a 16-bit field that the other side reads, and orders it
// before every later load.
//
//go:noescape
func storeEvent(p *uint16, v uint16)
