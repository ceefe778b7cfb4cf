package conformance

import (
	"sync/atomic"
	"unsafe"
)

// load32 reads the word at the front of b, which is aligned: flags and index of
// a ring's part. What is read after it was written before it.
func load32(b []byte) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&b[:4][0])))
}

// store32 writes the word at the front of b, after all that was written before.
func store32(b []byte, v uint32) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&b[:4][0])), v)
}

// swap32 writes the word at the front of b and gives what it was before.
func swap32(b []byte, v uint32) uint32 {
	return atomic.SwapUint32((*uint32)(unsafe.Pointer(&b[:4][0])), v)
}
