package virtio

import (
	"errors"
	"fmt"
)

// MaxSize is the largest ring (virtio 1.2, 2.7: queue size).
const MaxSize = 32768

// Ring is the memory of a split virtqueue (virtio 1.2, 2.7), each part a slice
// of at least the length [SplitSizes] gives.
type Ring struct {
	Size              uint16
	Desc, Avail, Used []byte
}

// SplitSizes gives the lengths in bytes of descriptor table, available ring
// and used ring of n descriptors, the event fields included.
func SplitSizes(n uint16) (desc, avail, used uint64) {
	return 16 * uint64(n), 6 + 2*uint64(n), 6 + 8*uint64(n)
}

// ErrRing is what a ring's layout is refused with; the wrapping error says why.
var ErrRing = errors.New("the ring is laid out badly")

// Check says why a worker could not use the ring: its size, the length of a
// part, its alignment (virtio 1.2, 2.7: 16, 2 and 4 bytes).
func (r Ring) Check() error {
	if r.Size == 0 || r.Size > MaxSize || r.Size&(r.Size-1) != 0 {
		return fmt.Errorf("%w: %d descriptors, not a power of two up to %d", ErrRing, r.Size, MaxSize)
	}
	desc, avail, used := SplitSizes(r.Size)
	for _, part := range []struct {
		name  string
		mem   []byte
		size  uint64
		align uintptr
	}{{"descriptor table", r.Desc, desc, 16}, {"available ring", r.Avail, avail, 2}, {"used ring", r.Used, used, 4}} {
		if uint64(len(part.mem)) < part.size {
			return fmt.Errorf("%w: the %s has %d of %d bytes", ErrRing, part.name, len(part.mem), part.size)
		}
		if !aligned(part.mem, part.align) {
			return fmt.Errorf("%w: the %s is not aligned to %d bytes", ErrRing, part.name, part.align)
		}
	}
	return nil
}

// Descriptor flags (virtio 1.2, 2.7.5).
const (
	flagNext     = 1
	flagWrite    = 2
	flagIndirect = 4
)

// Ring flags: the other side asks for no notifications.
const (
	availNoInterrupt = 1 // virtio 1.2, 2.7.6
	usedNoNotify     = 1 // virtio 1.2, 2.7.8
)

// descriptor is a descriptor in a local of ours: what was validated is what is
// used, whatever the driver writes meanwhile.
type descriptor struct {
	addr  uint64
	len   uint32
	flags uint16
	next  uint16
}

// decode splits the two words of a descriptor.
func decode(lo, hi uint64) descriptor {
	return descriptor{addr: lo, len: uint32(hi), flags: uint16(hi >> 32), next: uint16(hi >> 48)}
}
