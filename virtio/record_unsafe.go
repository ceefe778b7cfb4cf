package virtio

import (
	"sync/atomic"
	"unsafe"
)

// Record is the record of which chains of a ring a device has taken and not
// given back (vhost-user, "Inflight I/O tracking"). It lies in memory that
// outlives the device: who is killed is followed by one that knows what to do
// again, and what not. The peer can write it too, so nothing in it is believed
// further than its bounds.
type Record struct {
	base unsafe.Pointer // of memory that its maker keeps mapped
	size uint16         // descriptors it has entries for
}

// It is a header of two 64-bit words and an entry of two for
// each descriptor (vhost-user, "Inflight I/O tracking", split virtqueue):
//
//	 0  features
//	 8  version:16  desc_num:16  last_batch_head:16  used_idx:16
//	16  inflight:8  padding:40  next:16      of descriptor 0
//	24  counter                              of descriptor 0
//	32  …
//
// Each word is written whole and by sync/atomic. Who goes on after a crash sees
// what a processor had stored, in its order; it is the compiler that must not
// change that order.

// word points at the 64-bit word at an offset that is inside the record.
func (r *Record) word(offset uintptr) *uint64 { return (*uint64)(unsafe.Add(r.base, offset)) }

// recordOf wants memory that NewRecord looked at.
func recordOf(mem []byte, n uint16) *Record {
	return &Record{unsafe.Pointer(unsafe.SliceData(mem)), n}
}

// recordHeader is the second word of a record.
type recordHeader struct{ version, size, last, used uint16 }

func (r *Record) header() recordHeader {
	v := atomic.LoadUint64(r.word(8))
	return recordHeader{uint16(v), uint16(v >> 16), uint16(v >> 32), uint16(v >> 48)}
}

func (r *Record) setHeader(h recordHeader) {
	atomic.StoreUint64(r.word(8), uint64(h.version)|uint64(h.size)<<16|uint64(h.last)<<32|uint64(h.used)<<48)
}

// entry is the first word of a descriptor's entry; i is less than r.size.
func (r *Record) entry(i uint16) (inflight bool, next uint16) {
	v := atomic.LoadUint64(r.word(recordHeaderLen + uintptr(i)*recordEntryLen))
	return uint8(v) != 0, uint16(v >> 48)
}

func (r *Record) setEntry(i uint16, inflight bool, next uint16) {
	v := uint64(next) << 48
	if inflight {
		v |= 1
	}
	atomic.StoreUint64(r.word(recordHeaderLen+uintptr(i)*recordEntryLen), v)
}

// counter is the second word.
func (r *Record) counter(i uint16) uint64 {
	return atomic.LoadUint64(r.word(recordHeaderLen + uintptr(i)*recordEntryLen + 8))
}

func (r *Record) setCounter(i uint16, v uint64) {
	atomic.StoreUint64(r.word(recordHeaderLen+uintptr(i)*recordEntryLen+8), v)
}
