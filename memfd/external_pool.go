package memfd

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/vhostd/vhostd/memtable"
)

// lender is the supply of a pool whose buffers lie in an external heap. What it
// grows by is lent by the heap, and goes back once all of it is released.
type lender struct {
	*brought
	store *store

	mu    sync.Mutex
	loans []lending
}

// lending is a loan, and how many of its bytes the pool has.
type lending struct {
	loan
	rest uint64
}

// owns tests that h, if it is one, is a heap of a.
func (a *Arena) owns(h *ExternalHeap) error {
	if h != nil && h.arena != a {
		return fmt.Errorf("heap %q is one of another arena: %w", h.name, ErrForeign)
	}
	return nil
}

// supplyOf gives where a pool gets memory.
func (a *Arena) supplyOf(h *ExternalHeap) supply {
	if h == nil {
		return a
	}
	return &lender{brought: h.from, store: h.store}
}

// grow lends memory of the first page size there is enough of, and only such as
// devices can find.
func (l *lender) grow(ctx context.Context, g growth) (*block, error) {
	var all []error
	for _, s := range l.shapes(g.page, g.node) {
		r := request{size: up(g.size, s.page), align: s.page, page: s.page, node: g.node, known: true}
		b, err := l.lend(ctx, r)
		if err == nil {
			return b, nil
		}
		all = append(all, err)
	}
	if all == nil {
		return l.brought.grow(ctx, g)
	}
	return nil, errors.Join(all...)
}

// lend lends memory that is zero, as that of an arena is.
func (l *lender) lend(ctx context.Context, r request) (*block, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	m, err := l.store.take(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := m.clear(); err != nil {
		return nil, errors.Join(err, l.store.give(m.va, m.token))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loans = append(l.loans, lending{m, m.size})
	return &block{VA: m.va, Addr: l.store.address(m.va), Size: m.size, Page: r.page, Node: r.node, Extent: r.page}, nil
}

// release takes back what a pool gives back: a part of what was lent at once, or
// parts that follow one another.
func (l *lender) release(_ context.Context, va memtable.VA, size uint64) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, to := numberOf(va), numberOf(va)+size
	kept := l.loans[:0]
	for _, m := range l.loans {
		first := numberOf(m.va)
		if low, high := max(from, first), min(to, first+m.size); low < high {
			m.rest -= high - low
		}
		if m.rest > 0 {
			kept = append(kept, m)
			continue
		}
		err = errors.Join(err, l.store.give(m.va, m.token))
	}
	l.loans = kept
	return err
}
