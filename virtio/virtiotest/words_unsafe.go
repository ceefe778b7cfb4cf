package virtiotest

import (
	"sync/atomic"
	"unsafe"
)

// The fields of a ring that both sides use at the same time. The 32-bit word of
// flags and idx goes through sync/atomic, so that the race detector sees what
// the ring hands over. Go has no 16-bit atomics: used_event and avail_event go
// through assembly, which the race detector does not see.

// load32 reads a shared word, with acquire.
func load32(b []byte) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(unsafe.SliceData(b[:4]))))
}

// store32 writes a shared word; no later atomic load goes before it.
func store32(b []byte, v uint32) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(unsafe.SliceData(b[:4]))), v)
}

// load16 reads a shared field, with acquire.
func load16(b []byte) uint16 {
	return loadShort((*uint16)(unsafe.Pointer(unsafe.SliceData(b[:2]))))
}

// store16 writes a shared field; no later load goes before it.
func store16(b []byte, v uint16) {
	storeShort((*uint16)(unsafe.Pointer(unsafe.SliceData(b[:2]))), v)
}

//go:noescape
func loadShort(p *uint16) uint16

//go:noescape
func storeShort(p *uint16, v uint16)
