package memtable

import "sync"

// spaceMax bounds what all mappings of this process take of its address space
// together, in bytes; a process has 128 TiB on amd64. Sparse files are free for
// who sends them, and without address space the Go runtime cannot grow and ends
// the process.
const spaceMax = 64 << 40

// space is what is left of it.
var space = struct {
	sync.Mutex
	left uint64
}{left: spaceMax}

// takeSpace takes n bytes; false: there are not so many.
func takeSpace(n uint64) bool {
	space.Lock()
	defer space.Unlock()
	if n > space.left {
		return false
	}
	space.left -= n
	return true
}

// giveSpace gives n bytes back.
func giveSpace(n uint64) {
	space.Lock()
	defer space.Unlock()
	space.left += n
}
