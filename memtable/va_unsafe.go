package memtable

import (
	"strconv"
	"unsafe"
)

// VA is a pointer into memory of ours: an address of this process that a
// [Mapping] or a [Table] vouched for. It is opaque, and made only in this
// package. The zero VA points nowhere.
//
// A VA keeps nothing mapped. It is good for as long as the epoch it was looked
// up in (see [Reader]), or for as long as its owner says.
type VA struct{ p unsafe.Pointer }

// Add moves the pointer by n bytes. The caller stays inside what it looked up:
// one past its last byte is already too far.
func (v VA) Add(n uint64) VA { return VA{unsafe.Add(v.p, n)} }

// Bytes gives the n bytes at v as a slice, without a copy.
func (v VA) Bytes(n uint64) []byte { return unsafe.Slice((*byte)(v.p), n) }

// Pointer gives the naked pointer, for the few files that overlay structures
// on shared memory.
func (v VA) Pointer() unsafe.Pointer { return v.p }

// UVA gives the pointer as the address that a peer is told (vhost-user calls
// it the user address). Only a peer of ours, who was given it, can name it.
func (v VA) UVA() UVA { return UVA(v.number()) }

// IsNil tells whether v points nowhere.
func (v VA) IsNil() bool { return v.p == nil }

// String gives the pointer as 0x…, for people who compare it with
// /proc/self/maps.
func (v VA) String() string { return "0x" + strconv.FormatUint(uint64(v.number()), 16) }

// number is for comparing and for searching by address. It is never turned
// back into a pointer.
func (v VA) number() uintptr { return uintptr(v.p) }

// vaOf points at the first byte of mem; the zero VA if there is none.
func vaOf(mem []byte) VA { return VA{unsafe.Pointer(unsafe.SliceData(mem))} }
