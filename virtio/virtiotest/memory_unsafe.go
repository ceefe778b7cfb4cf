package virtiotest

import "unsafe"

// page is the alignment of every region, in the host as in the guest.
const page = 4096

// heapBytes gives n zeroed bytes of Go heap that begin at a page boundary. They
// are made of uint64 so that the words of a ring are aligned as atomics ask.
func heapBytes(n uint64) []byte {
	words := make([]uint64, (n+page)/8+1)
	p := unsafe.Pointer(unsafe.SliceData(words))
	skip := -uintptr(p) % page
	return unsafe.Slice((*byte)(unsafe.Add(p, skip)), n)
}
