package peers

import (
	"sync"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// Rotation is all buffers that others have, used in turn: the one that was given
// back longest ago comes next. So traffic goes through all of the memory.
type Rotation struct {
	from vnet.Buffers

	mu   sync.Mutex
	all  []memtable.Buf // a ring
	head int
	n    int
}

// Rotate takes n buffers from others.
func Rotate(from vnet.Buffers, n int) *Rotation {
	r := &Rotation{from: from, all: make([]memtable.Buf, n)}
	r.n = from.Get(r.all)
	return r
}

// Get implements vnet.Buffers.
func (r *Rotation) Get(dst []memtable.Buf) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	dst = dst[:min(len(dst), r.n)]
	for i := range dst {
		dst[i] = r.all[r.head]
		r.head = (r.head + 1) % len(r.all)
	}
	r.n -= len(dst)
	return len(dst)
}

// Put implements vnet.Buffers.
func (r *Rotation) Put(src []memtable.Buf) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range src {
		r.all[(r.head+r.n)%len(r.all)] = b
		r.n++
	}
}

// Len is how many there are, lent ones not counted.
func (r *Rotation) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// Close gives all back to where they are from.
func (r *Rotation) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ; r.n > 0; r.n-- {
		r.from.Put(r.all[r.head : r.head+1])
		r.head = (r.head + 1) % len(r.all)
	}
}
