package memfd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/vhostd/vhostd/memtable"
)

// ExternalHeap is a heap of the memory that was added to it, and of no other: it
// never takes any from the arena, and the arena's own heaps, zones and pools take
// none from it. Zones and pools may (ZoneOptions.Heap, PoolOptions.Heap).
//
// Its buffers are contiguous for devices where the memory has addresses for them,
// and where it has none their Addr is memtable.NoIOVA.
type ExternalHeap struct {
	*Heap
	arena *Arena
	from  *brought
}

// maxBrought is how many pieces of memory an external heap may have: they are
// looked through one by one.
const maxBrought = 255

// ExternalHeap makes a heap of a name that no other heap of the arena has. It has
// no memory yet.
func (a *Arena) ExternalHeap(name string) (*ExternalHeap, error) {
	from := &brought{arena: a, heap: "heap " + name}
	h := &Heap{name: name, o: HeapOptions{Node: AnyNode}, external: true}
	h.store = newStore(from, from.heap, false, false, -1)
	if err := a.keep(h); err != nil {
		return nil, err
	}
	return &ExternalHeap{Heap: h, arena: a, from: from}, nil
}

// Add brings memory in, which is zero after it. It belongs to the heap until it is
// removed, or the heap is closed. Errors are those of Arena.Register.
func (h *ExternalHeap) Add(ctx context.Context, o ExternalOptions) error {
	err := h.add(ctx, o)
	if err != nil {
		return fmt.Errorf("adding memory to %s: %w", h.from.heap, err)
	}
	return nil
}

func (h *ExternalHeap) add(ctx context.Context, o ExternalOptions) error {
	s := h.store
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.isClosed() {
		return ErrClosed
	}
	if n := len(h.from.all()); n == maxBrought {
		return &ShortageError{What: "room for external memory (the number of pieces)", Node: AnyNode,
			Want: uint64(n) + 1, Have: maxBrought, Advice: "add larger pieces"}
	}
	x := &External{name: h.name, arena: h.arena, zeroed: true}
	if err := h.arena.admit(ctx, x, o); err != nil {
		return err
	}
	h.from.change(func(all []*External) []*External { return append(all, x) })
	c := x.class
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grown += uint64(len(c.mem))
	s.chunks.add(&block{VA: c.base, Size: uint64(len(c.mem)), Page: c.page, Node: c.node, Extent: c.page, lot: x}, false)
	return nil
}

// Remove takes memory out that was added as exactly mem. While some of it is lent,
// the error wraps ErrBusy and nothing has happened; if there is no such memory,
// ErrUnknown. After a *QuarantineError nothing is lent of it any more, it must stay
// mapped, and Remove or Arena.Reclaim can be called again.
func (h *ExternalHeap) Remove(ctx context.Context, mem []byte) error {
	s := h.store
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	at := addressOf(mem)
	for _, x := range h.from.all() {
		if c := x.class; c.first != at || len(c.mem) != len(mem) {
			continue
		}
		if !s.dismiss(x) {
			return fmt.Errorf("removing %s from %s: %w", bytesText(uint64(len(mem))), h.from.heap, ErrBusy)
		}
		return h.from.drop(ctx, x)
	}
	return fmt.Errorf("%s has no %d bytes at 0x%x that were added as such: %w", h.from.heap, len(mem), at, ErrUnknown)
}

// dismiss takes the memory of x out of the store, if nothing of it is lent.
func (s *store) dismiss(x *External) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.chunks.has(x) {
		return true // it is out, and could not be unregistered
	}
	s.chunks.clearShelf()
	if !s.chunks.dismiss(x.class.first) {
		return false
	}
	s.returned += uint64(len(x.class.mem))
	return true
}

// brought is the supply of an external heap. There is what was brought, so it
// never grows.
type brought struct {
	arena *Arena
	heap  string

	mu     sync.Mutex
	pieces []*External // not changed, but replaced
}

// all gives what was brought.
func (b *brought) all() []*External {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pieces
}

func (b *brought) change(f func([]*External) []*External) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pieces = f(slices.Clone(b.pieces))
}

// drop unregisters x.
func (b *brought) drop(ctx context.Context, x *External) error {
	// Reclaim may have been before us.
	if err := x.Unregister(ctx); err != nil && !errors.Is(err, ErrUnknown) {
		return err
	}
	b.change(func(all []*External) []*External {
		return slices.DeleteFunc(all, func(o *External) bool { return o == x })
	})
	return nil
}

func (b *brought) grow(_ context.Context, g growth) (*block, error) {
	short := &ShortageError{What: "memory in " + b.heap, Node: AnyNode, Want: g.size,
		Advice: "free some, or add more"}
	all := b.all()
	if g.contiguous && len(all) > 0 && !slices.ContainsFunc(all, (*External).addressed) {
		short.Err = ErrNoAddress
	}
	return nil, short
}

// release is for a heap that is closed: it releases all there is, piece by piece.
func (b *brought) release(ctx context.Context, va memtable.VA, _ uint64) error {
	for _, x := range b.all() {
		if x.class.base == va {
			return b.drop(ctx, x)
		}
	}
	return ErrUnknown
}

func (b *brought) iova(va memtable.VA) (addr memtable.IOVA, n uint64, ok bool) {
	return b.arena.iova(va)
}

func (b *brought) scattered() bool { return false }

func (b *brought) shapes(page uint64, node int) (all []shape) {
	for _, x := range b.all() {
		c := x.class
		s := shape{c.page, c.page}
		if (page == 0 || page == c.page) && (node == AnyNode || node == c.node) && !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// pieces cuts what lies from from to to where it is not contiguous for devices,
// if they can find it.
func (x *External) pieces(from, to uint64) iter.Seq2[uint64, uint64] {
	return func(yield func(from, to uint64) bool) {
		for from < to {
			next := to
			if _, n, ok := x.arena.iova(x.class.base.Add(from - x.class.first)); ok {
				next = min(to, from+n)
			}
			if !yield(from, next) {
				return
			}
			from = next
		}
	}
}

// addressed tells whether devices can find it.
func (x *External) addressed() bool { return x.class.slots[0].addr != memtable.NoIOVA }
