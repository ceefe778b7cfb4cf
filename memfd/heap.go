package memfd

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/vhostd/vhostd/memtable"
)

// Heap lends memory of any size. It takes extents from its arena as it needs
// them, and gives them back some time after they became free (Options.Linger).
// Its methods may be called from any goroutine.
//
// What it knows of its memory is not in that memory: a peer that writes where
// it likes harms the contents of what is shared with it, and nothing else.
type Heap struct {
	name  string
	o     HeapOptions
	store *store
	leave func() // the arena

	external bool // see ExternalHeap
}

// HeapOptions says what memory a heap takes.
type HeapOptions struct {
	Shared bool   // mirrors get it; buffers have addresses for devices and are contiguous for them
	Page   uint64 // page size in bytes, and no other; 0: by the arena's preference
	Hint   uint64 // page size in bytes to try before others, if Page is 0; 0: none
	Node   int    // NUMA node, or AnyNode; in an arena without nodes it does not matter
}

// Heap makes a heap of a name that no other heap of the arena has.
func (a *Arena) Heap(name string, o HeapOptions) (*Heap, error) {
	o.Node = a.nodeOf(o.Node)
	h := &Heap{name: name, o: o, store: newStore(a, "heap "+name, o.Shared, o.Shared, a.o.Linger)}
	if err := a.keep(h); err != nil {
		return nil, err
	}
	return h, nil
}

// keep makes h one of the arena's heaps.
func (a *Arena) keep(h *Heap) error {
	h.leave = func() { a.users.heaps.leave(h.name, h) }
	return a.users.heaps.enter(a, "heap", h.name, h)
}

// Name is what the heap is called.
func (h *Heap) Name() string { return h.name }

// Heaps gives all heaps there are, by name.
func (a *Arena) Heaps() []*Heap { return a.users.heaps.all() }

// Alloc lends n bytes at an address that is a multiple of align, a power of two
// or 0; it always is one of 64. The memory may not be zero. If the heap has to
// grow, Alloc waits for the arena's mirrors, and errors are those of growing.
//
// The buffer has a Cap of n or a little more, all of it the caller's.
func (h *Heap) Alloc(ctx context.Context, n, align uint64) (b memtable.Buf, err error) {
	// All that a heap asks of its store is alike but for the size.
	if !h.external && h.store.quick(n, align, &b) {
		return b, nil
	}
	return h.lend(ctx, n, align)
}

// lend is Alloc of what is not on the shelf.
func (h *Heap) lend(ctx context.Context, n, align uint64) (memtable.Buf, error) {
	l, err := h.alloc(ctx, n, align)
	if err != nil {
		return memtable.Buf{}, err
	}
	return h.buf(l, n), nil
}

// AllocZero is Alloc of memory that is zero. Pages that are new are not cleared
// again.
func (h *Heap) AllocZero(ctx context.Context, n, align uint64) (memtable.Buf, error) {
	l, err := h.alloc(ctx, n, align)
	if err != nil {
		return memtable.Buf{}, err
	}
	if err := l.clear(); err != nil {
		return memtable.Buf{}, errors.Join(err, h.store.give(l.va, l.token))
	}
	return h.buf(l, n), nil
}

// maxBuf is the most that a Buf can tell, rounded.
const maxBuf = math.MaxUint32 &^ (quantum - 1)

func (h *Heap) alloc(ctx context.Context, n, align uint64) (loan, error) {
	r := request{size: n, align: align, page: h.o.Page, hint: h.o.Hint, node: h.o.Node, whole: h.external}
	if n > maxBuf {
		return loan{}, fmt.Errorf("%d bytes in one buffer: %w: a zone may be larger", n, ErrSize)
	}
	if err := r.check(); err != nil {
		return loan{}, err
	}
	return h.store.take(ctx, r)
}

// buf tells of memory of which n bytes were asked for.
func (h *Heap) buf(l loan, n uint64) memtable.Buf {
	b := memtable.Buf{VA: l.va, Len: uint32(n), Cap: uint32(l.size), Token: l.token}
	switch {
	case h.external:
		b.Addr = h.store.address(l.va)
	case h.o.Shared:
		b.Addr = memtable.IOVA(l.iova)
	}
	return b
}

// Free takes back a buffer, with VA and Token as they were lent. The error
// wraps ErrFreed or ErrForeign if it is not lent, and then nothing has happened.
func (h *Heap) Free(b memtable.Buf) error { return h.store.give(b.VA, b.Token) }

// Realloc makes b larger or smaller: in its place if there is room behind it
// and it is aligned, else by a copy of all that fits. b must not be used any
// more, unless there is an error: then it is as it was. The zero Buf makes
// Realloc an Alloc.
func (h *Heap) Realloc(ctx context.Context, b memtable.Buf, n, align uint64) (memtable.Buf, error) {
	if b.VA.IsNil() {
		return h.Alloc(ctx, n, align)
	}
	r := request{size: n, align: align}
	if err := r.check(); err != nil || n > maxBuf {
		return memtable.Buf{}, fmt.Errorf("%d bytes aligned to %d: %w", n, align, ErrSize)
	}
	size := r.size
	if numberOf(b.VA)&(r.align-1) != 0 {
		size = most // cannot stay
	}
	if _, n, ok := h.store.from.iova(b.VA); h.external && ok && n < size {
		size = most // would not be contiguous
	}
	old, ok, err := h.store.resize(b.VA, b.Token, size)
	if err != nil {
		return memtable.Buf{}, err
	}
	if ok {
		return h.buf(old, n), nil
	}
	l, err := h.alloc(ctx, n, align)
	if err != nil {
		return memtable.Buf{}, err
	}
	size = min(old.size, l.size)
	err = memtable.Guard(func() error { // see loan.clear
		copy(l.va.Bytes(size), old.va.Bytes(size))
		return nil
	})
	if err != nil {
		return memtable.Buf{}, errors.Join(err, h.store.give(l.va, l.token))
	}
	return h.buf(l, n), h.Free(b)
}

// HeapStats are numbers of a heap. Used and Free make up Mapped.
type HeapStats struct {
	Allocations int    `json:"allocations"` // that are lent
	Mapped      uint64 `json:"mapped"`      // bytes the heap has of the arena
	Used        uint64 `json:"used"`        // bytes lent, rounded up to multiples of 64
	Free        uint64 `json:"free"`        // bytes
	Greatest    uint64 `json:"greatest"`    // bytes that can be lent in one piece without growing
	Grown       uint64 `json:"grown"`       // bytes taken from the arena, ever
	Returned    uint64 `json:"returned"`    // bytes given back to it, ever
}

// Stats tells how the heap does.
func (h *Heap) Stats() HeapStats {
	s := h.store
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.chunks
	return HeapStats{
		Allocations: c.lent, Mapped: c.size, Used: c.used, Free: c.size - c.used,
		Greatest: c.greatest(&request{align: quantum, node: AnyNode}),
		Grown:    s.grown, Returned: s.returned,
	}
}

// Close gives all memory back. While some of it is lent, the error wraps
// ErrBusy, and the heap goes on.
func (h *Heap) Close() error {
	closed, err := h.store.close()
	if closed {
		h.leave()
	}
	return err
}
