package memfd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
)

// Shrink takes at most n buffers out of use and gives their extents back. It
// takes whole slabs, of which least is lent, and none that is resident; gone
// tells how many buffers that were, 0 if n is less than any slab has.
//
// Buffers that are lent are waited for until ctx ends. Those slabs that are not
// complete then stay in use, and the error wraps ErrBusy and that of ctx.
func (p *Pool) Shrink(ctx context.Context, n int) (gone int, err error) {
	if err := p.lock(ctx); err != nil {
		return 0, err
	}
	defer p.unlock()
	retired := p.retire(p.choose(n))
	for ctx.Err() == nil && p.missing(retired) > 0 {
		select {
		case <-p.home:
		case <-ctx.Done():
		}
	}
	out, kept := p.expel(retired)
	for _, s := range out {
		gone += len(s.places)
	}
	if len(kept) > 0 {
		err = fmt.Errorf("pool %q: %d buffers were not given back: %w: %w", p.name, p.missing(kept), ErrBusy, ctx.Err())
		p.restore(kept)
	}
	return gone, errors.Join(err, p.release(out))
}

// choose gives the slabs for Shrink.
func (p *Pool) choose(n int) (chosen []*slab) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(p.order), func(s *slab) bool { return s.resident })
	slices.Reverse(all) // of slabs that are alike rather the highest
	slices.SortStableFunc(all, func(x, y *slab) int {
		return cmp.Compare(len(x.places)-len(x.stack), len(y.places)-len(y.stack))
	})
	for _, s := range all {
		if len(s.places) <= n {
			chosen = append(chosen, s)
			n -= len(s.places)
		}
	}
	return chosen
}

// retire ends the use of slabs: none of their buffers is lent any more once it
// returns, and caches hold none.
func (p *Pool) retire(all []*slab) []*slab {
	if len(all) == 0 {
		return nil
	}
	p.mu.Lock()
	for _, s := range all {
		s.retiring.Store(true)
	}
	caches := slices.Clone(p.caches)
	p.mu.Unlock()
	// A worker that is in a cache now may still put one of the buffers in,
	// and has done so before evict enters.
	for _, c := range caches {
		c.evict()
	}
	return all
}

// missing counts the buffers that have not come back.
func (p *Pool) missing(all []*slab) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range all {
		n += len(s.places) - len(s.stack)
	}
	return n
}

// expel takes those slabs out of the pool that are complete; the others are kept.
func (p *Pool) expel(all []*slab) (out, kept []*slab) {
	p.mu.Lock()
	defer p.mu.Unlock()
	slabs := slices.Clone(*p.slabs.Load())
	for _, s := range all {
		if len(s.stack) == len(s.places) {
			out = append(out, s)
			slabs[s.slot] = nil
		} else {
			kept = append(kept, s)
		}
	}
	p.slabs.Store(&slabs)
	p.arrange(slices.DeleteFunc(p.order, func(s *slab) bool { return slabs[s.slot] != s }))
	return out, kept
}

// restore takes slabs into use again.
func (p *Pool) restore(all []*slab) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range all {
		s.retiring.Store(false)
	}
	p.arrange(p.order)
}

// Close gives all memory back. While buffers are lent, the error wraps ErrBusy,
// and the pool goes on. Caches lend nothing any more after it.
func (p *Pool) Close() error {
	p.turn <- struct{}{}
	defer p.unlock()
	p.mu.Lock()
	all := slices.Clone(p.order)
	p.mu.Unlock()
	p.retire(all)
	if n := p.missing(all); n > 0 {
		p.restore(all)
		return fmt.Errorf("pool %q: %d buffers are lent: %w", p.name, n, ErrBusy)
	}
	p.closed = true
	p.leave()
	out, _ := p.expel(all)
	return p.release(out)
}
