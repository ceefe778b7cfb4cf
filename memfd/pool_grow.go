package memfd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
)

// Grow adds at least n buffers, or none if there is an error. It waits for the
// arena's mirrors; meanwhile the pool serves as before.
func (p *Pool) Grow(ctx context.Context, n int) error { return p.grow(ctx, n, 0) }

func (p *Pool) grow(ctx context.Context, n, resident int) error {
	if n < 0 || uint64(n) > most/p.stride {
		return fmt.Errorf("pool %q: %d more buffers: %w", p.name, n, ErrSize)
	}
	if err := p.lock(ctx); err != nil {
		return err
	}
	defer p.unlock()
	if p.closed {
		return fmt.Errorf("pool %q: %w", p.name, ErrClosed)
	}
	fresh, err := p.more(ctx, n)
	if err == nil {
		err = p.admit(fresh, resident)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("pool %q, %d more buffers: %w", p.name, n, err), p.release(fresh))
	}
	return nil
}

// more gets slabs with n buffers at least. What there is on an error is to be
// released.
func (p *Pool) more(ctx context.Context, n int) (fresh []*slab, err error) {
	pages, err := p.pages()
	if err != nil {
		return nil, err
	}
	for page := uint64(0); n > 0; {
		b, err := p.block(ctx, p.bytes(n, page), pages)
		if err != nil {
			return fresh, err
		}
		got := 0
		for _, s := range p.cut(b) {
			fresh = append(fresh, s)
			got += len(s.places)
		}
		if got == 0 {
			return fresh, &ShortageError{What: "contiguous memory for devices", Node: p.o.Node, Want: p.stride,
				Advice: "use larger pages, or an IOMMU (IOVAAsVA)"}
		}
		n -= got
		page = b.Page // there may have been less room in it than we thought
	}
	return fresh, nil
}

// pages gives the page sizes to ask for one after the other; 0 leaves the choice
// to the arena.
func (p *Pool) pages() (pages []uint64, err error) {
	shapes := p.from.shapes(p.o.Page, p.o.Node)
	for _, s := range shapes {
		if p.o.Straddle || p.stride <= s.page {
			pages = append(pages, s.page)
		}
	}
	hinted := slices.Contains(pages, p.o.Hint)
	if len(pages) == len(shapes) { // none at all, too: the arena has an error for that
		pages = []uint64{p.o.Page}
	}
	if hinted && p.o.Page == 0 {
		pages = append([]uint64{p.o.Hint}, pages...)
	}
	if len(pages) == 0 {
		return nil, fmt.Errorf("a buffer of %d bytes does not fit into a page: %w: use larger pages, or let buffers straddle them", p.stride, ErrSize)
	}
	return pages, nil
}

// block grows by so many bytes, of the first page size there is enough of.
func (p *Pool) block(ctx context.Context, size uint64, pages []uint64) (b *block, err error) {
	for _, page := range pages {
		b, err = p.from.grow(ctx, growth{owner: "pool " + p.name, size: size, page: page, node: p.o.Node, shared: true})
		if err == nil || !elsewhere(err) {
			break
		}
	}
	return b, err
}

// bytes tells how much memory n buffers need in pages of a size; 0: nobody knows
// yet of which, and it may be more.
func (p *Pool) bytes(n int, page uint64) uint64 {
	if fit := page / p.stride; !p.o.Straddle && fit > 0 {
		return ((uint64(n)-1)/fit + 1) * page
	}
	size := uint64(n) * p.stride
	if p.align > uint64(os.Getpagesize()) {
		size += p.align // extents may be aligned to less
	}
	return size
}

// admit puts new slabs to use.
func (p *Pool) admit(fresh []*slab, resident int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := slices.Clone(*p.slabs.Load())
	for _, s := range fresh {
		slot := slices.Index(all, nil)
		if slot < 0 {
			slot, all = len(all), append(all, nil)
		}
		all[slot], s.slot = s, uint64(slot)
		s.resident = resident > 0
		resident -= len(s.places)
		// Buffers of a slab that is gone are not taken for those of one
		// that comes into its place.
		for i := range s.places {
			s.places[i].gen = p.seed
		}
		p.seed += 1 << 12
	}
	if len(all) > maxSlots {
		return &ShortageError{What: "room for the extents of a pool (their number)", Node: p.o.Node,
			Want: uint64(len(all)), Have: maxSlots, Advice: "use larger pages or extents"}
	}
	p.slabs.Store(&all)
	p.arrange(append(p.order, fresh...))
	return nil
}

// arrange puts slabs into the order in which they are used. mu is held.
func (p *Pool) arrange(all []*slab) {
	byAddress(all)
	for i, s := range all {
		s.rank = i
	}
	p.order, p.first = all, [2]int{}
}

func byAddress(all []*slab) {
	slices.SortFunc(all, func(x, y *slab) int { return cmp.Compare(numberOf(x.va), numberOf(y.va)) })
}

// release gives slabs back to the arena that nobody uses, neighbours together.
func (p *Pool) release(gone []*slab) (err error) {
	byAddress(gone)
	for i := 0; i < len(gone); {
		first, size := gone[i], uint64(0)
		for i < len(gone) && numberOf(gone[i].va) == numberOf(first.va)+size {
			size += gone[i].size
			i++
		}
		err = errors.Join(err, p.from.release(context.Background(), first.va, size))
	}
	return err
}
