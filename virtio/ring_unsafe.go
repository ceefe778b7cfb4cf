package virtio

import (
	"sync/atomic"
	"unsafe"

	"github.com/vhostd/vhostd/memtable"
)

// words is a split ring as a worker uses it: pointers into memory that the
// view's table keeps mapped. Shared words are read and written whole: the
// 32-bit flags|idx words by sync/atomic, the 16-bit event fields by the
// assembly in event_*.s (Go has no 16-bit atomics, and the race detector
// should not take them for plain accesses).
type words struct {
	desc, avail, used unsafe.Pointer
	mask              uint16
	odd               bool // avail is at 2 modulo 4: no 32-bit word holds flags and idx
}

// aligned says whether b begins at a multiple of n.
func aligned(b []byte, n uintptr) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%n == 0
}

// wordsOf wants a ring that Check accepted.
func wordsOf(r Ring) words {
	return words{
		desc:  unsafe.Pointer(unsafe.SliceData(r.Desc)),
		avail: unsafe.Pointer(unsafe.SliceData(r.Avail)),
		used:  unsafe.Pointer(unsafe.SliceData(r.Used)),
		mask:  r.Size - 1,
		odd:   !aligned(r.Avail, 4),
	}
}

// descriptor copies descriptor i, by two loads.
func (w *words) descriptor(i uint16) descriptor {
	p := unsafe.Add(w.desc, uintptr(i&w.mask)*16)
	return decode(*(*uint64)(p), *(*uint64)(unsafe.Add(p, 8)))
}

// head reads the available ring's entry at free-running index i.
func (w *words) head(i uint16) uint16 {
	return *(*uint16)(unsafe.Add(w.avail, 4+uintptr(i&w.mask)*2))
}

// availWord reads the available ring's flags and idx, with acquire.
func (w *words) availWord() (flags, idx uint16) {
	if w.odd {
		return loadEvent((*uint16)(w.avail)), loadEvent((*uint16)(unsafe.Add(w.avail, 2)))
	}
	v := atomic.LoadUint32((*uint32)(w.avail))
	return uint16(v), uint16(v >> 16)
}

// putUsed writes the used element at free-running index i.
func (w *words) putUsed(i uint16, id uint16, n uint32) {
	p := unsafe.Add(w.used, 4+uintptr(i&w.mask)*8)
	*(*uint32)(p) = uint32(id)
	*(*uint32)(unsafe.Add(p, 4)) = n
}

// storeUsed publishes flags and idx of the used ring. On amd64 it is an XCHG,
// on arm64 an STLR: later atomic loads are not ordered before it.
func (w *words) storeUsed(flags, idx uint16) {
	atomic.StoreUint32((*uint32)(w.used), uint32(flags)|uint32(idx)<<16)
}

// usedWord reads back flags and idx of the used ring.
func (w *words) usedWord() (flags, idx uint16) {
	v := atomic.LoadUint32((*uint32)(w.used))
	return uint16(v), uint16(v >> 16)
}

// usedEvent reads used_event, behind the available ring (virtio 1.2, 2.7.7).
func (w *words) usedEvent() uint16 {
	return loadEvent((*uint16)(unsafe.Add(w.avail, 4+(uintptr(w.mask)+1)*2)))
}

// storeAvailEvent writes avail_event, behind the used ring, with a full fence.
func (w *words) storeAvailEvent(v uint16) {
	storeEvent((*uint16)(unsafe.Add(w.used, w.availEventOffset())), v)
}

// availEvent reads avail_event back.
func (w *words) availEvent() uint16 {
	return loadEvent((*uint16)(unsafe.Add(w.used, w.availEventOffset())))
}

// availEventOffset is where avail_event lies in the used ring.
func (w *words) availEventOffset() uintptr { return 4 + (uintptr(w.mask)+1)*8 }

// load copies a descriptor from anywhere in guest memory, by two loads.
func load(va memtable.VA) descriptor {
	p := va.Pointer()
	return decode(*(*uint64)(p), *(*uint64)(unsafe.Add(p, 8)))
}
