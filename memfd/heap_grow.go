package memfd

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"github.com/vhostd/vhostd/memtable"
)

// supply is what the users need of an arena.
type supply interface {
	grow(ctx context.Context, g growth) (*block, error)
	release(ctx context.Context, va memtable.VA, size uint64) error
	iova(va memtable.VA) (addr memtable.IOVA, n uint64, ok bool)
	shapes(page uint64, node int) []shape
	scattered() bool
}

// shape is what memory may be had.
type shape struct{ page, extent uint64 } // bytes

// shapes tells what grow would choose from, in order of preference.
func (a *Arena) shapes(page uint64, node int) (all []shape) {
	for _, c := range a.classes {
		if (page == 0 || page == c.page) && (node == AnyNode || node == c.node) {
			all = append(all, shape{c.page, c.unit})
		}
	}
	return all
}

// scattered tells whether neighbours here may be none for devices.
func (a *Arena) scattered() bool { return a.o.IOVA == IOVAAsPA }

// take lends memory for a request that was checked, and grows the store if it
// has to. A hint is a page size that would be better: what other pages have is
// used only once there are no more of those.
func (s *store) take(ctx context.Context, r request) (loan, error) {
	if r.page == 0 && r.hint != 0 {
		hinted := r
		hinted.page = r.hint
		if l, err := s.takeOf(ctx, hinted); err == nil || !elsewhere(err) {
			return l, err
		}
	}
	return s.takeOf(ctx, r)
}

// takeOf is take by page size alone.
func (s *store) takeOf(ctx context.Context, r request) (loan, error) {
	if l, ok, err := s.try(&r); ok || err != nil {
		return l, err
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return loan{}, fmt.Errorf("waiting for %s to grow: %w", s.owner, ctx.Err())
	}
	defer func() { <-s.turn }()
	if l, ok, err := s.try(&r); ok || err != nil { // whoever was before us may have brought enough
		return l, err
	}
	g := growth{owner: s.owner, size: r.size + s.slack(&r), page: r.page, node: r.node, shared: s.shared, contiguous: s.flat || r.known}
	l, err := s.grow(ctx, g, &r)
	if _, short := errors.AsType[*ShortageError](err); short && s.flat && s.from.scattered() {
		// Nobody knows where new pages come to lie, but among more of them
		// there may be enough that follow one another.
		g.size, g.contiguous = 2*g.size, false
		if l, fail := s.grow(ctx, g, &r); fail == nil {
			return l, nil
		}
	}
	return l, err
}

// grow takes new memory for r, and lends it before anybody else sees it. The
// caller has the turn.
func (s *store) grow(ctx context.Context, g growth, r *request) (loan, error) {
	b, err := s.from.grow(ctx, g)
	if err != nil {
		return loan{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grown += b.Size
	s.add(b)
	if b.Size-r.size >= b.Extent {
		s.linger.arm() // some of it is not needed after all
	}
	i := s.chunks.take(r)
	if i == 0 {
		return loan{}, &ShortageError{What: "contiguous memory for devices", Node: r.node, Want: r.size,
			Advice: "use larger pages, or an IOMMU (IOVAAsVA)"}
	}
	return s.loan(i), nil
}

// add puts a new block in, in pieces that are contiguous for devices if they
// have to be. mu is held.
func (s *store) add(b *block) {
	for piece := *b; piece.Size > 0; {
		all := piece.Size
		if addr, n, ok := s.from.iova(piece.VA); s.flat && ok {
			piece.Addr, piece.Size = addr, min(n, all)
		}
		s.chunks.add(&piece, s.flat)
		if piece.Size == all {
			return // there is nothing behind it to point at
		}
		piece.VA, piece.Size = piece.VA.Add(piece.Size), all-piece.Size
	}
}

// slack is how much more than its size is asked for, so that r has room in it
// wherever it comes to lie. Blocks lie on a border of extents, so most need none.
func (s *store) slack(r *request) uint64 {
	need := r.align
	if r.bound != 0 {
		// What lies on a multiple of the next power of two crosses none.
		need = max(need, 1<<bits.Len64(r.size-1))
	}
	slack := uint64(0)
	for _, sh := range s.from.shapes(r.page, r.node) {
		if need > sh.extent {
			slack = max(slack, need-sh.extent)
		}
	}
	return slack
}
