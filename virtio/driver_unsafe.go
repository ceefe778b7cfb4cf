package virtio

import (
	"sync/atomic"
	"unsafe"

	"github.com/vhostd/vhostd/memtable"
)

// The words of a ring as its driver uses them, the other half of ring_unsafe.go.
// What is not atomic here is ordered by the index that shows it: descriptors,
// tables and heads are written before storeAvail releases them, and used
// elements are read after usedWord has acquired them.

// usedElem is an element of the used ring (virtio 1.2, 2.7.8) in a local of ours.
type usedElem struct{ id, len uint32 }

// usedElem copies the used element at free-running index i. It may lie across a
// multiple of 8 bytes, so it is two loads; each word is read once.
func (w *words) usedElem(i uint16) usedElem {
	p := unsafe.Add(w.used, 4+uintptr(i&w.mask)*8)
	return usedElem{*(*uint32)(p), *(*uint32)(unsafe.Add(p, 4))}
}

// putDescriptor writes descriptor i of the table, by two stores.
func (w *words) putDescriptor(i uint16, addr memtable.IOVA, rest uint64) {
	p := unsafe.Add(w.desc, uintptr(i&w.mask)*16)
	*(*uint64)(p), *(*uint64)(unsafe.Add(p, 8)) = uint64(addr), rest
}

// store writes a descriptor anywhere, as load reads it.
func store(va memtable.VA, addr memtable.IOVA, rest uint64) {
	p := va.Pointer()
	*(*uint64)(p), *(*uint64)(unsafe.Add(p, 8)) = uint64(addr), rest
}

// encode makes the second word of a descriptor, as decode splits it.
func encode(n uint32, flags, next uint16) uint64 {
	return uint64(n) | uint64(flags)<<32 | uint64(next)<<48
}

// putHead writes the available ring's entry at free-running index i.
func (w *words) putHead(i, head uint16) {
	*(*uint16)(unsafe.Add(w.avail, 4+uintptr(i&w.mask)*2)) = head
}

// storeAvail publishes flags and idx of the available ring: what was written
// before is seen by who sees it. On amd64 it is an XCHG, on arm64 an STLR: no
// later atomic load, and no loadEvent, goes before it.
func (w *words) storeAvail(flags, idx uint16) {
	atomic.StoreUint32((*uint32)(w.avail), uint32(flags)|uint32(idx)<<16)
}

// storeUsedEvent writes used_event, behind the available ring, with a full fence.
func (w *words) storeUsedEvent(v uint16) {
	storeEvent((*uint16)(unsafe.Add(w.avail, 4+(uintptr(w.mask)+1)*2)), v)
}

// clearUsed zeroes the used ring but for flags and idx, before a device has it.
func (w *words) clearUsed() {
	clear(unsafe.Slice((*byte)(unsafe.Add(w.used, 4)), (uintptr(w.mask)+1)*8+2))
}
