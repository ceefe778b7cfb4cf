package memfd

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/vhostd/vhostd/memtable"
)

// follower is a mirror that is told.
type follower struct {
	m memtable.Mirror
	// turn is held over each call of m, which are one at a time. It is a
	// channel, so that waiting for it can end.
	turn chan struct{}

	// These are guarded by Arena.mu.
	known    map[*slot]struct{} // what m may be able to reach
	stopping bool               // it hears of nothing new
}

// Follow announces all shared memory to m, and from then on every change, until
// stop. It implements memtable.Source. m may look at the arena from within its
// methods, and must not allocate from it.
//
// If m does not let go when it is stopped, stop gives the error and can be
// called again; what m holds is quarantined as it is freed.
func (a *Arena) Follow(ctx context.Context, m memtable.Mirror) (stop func(context.Context) error, err error) {
	f := &follower{m: m, turn: make(chan struct{}, 1), known: make(map[*slot]struct{})}
	f.turn <- struct{}{} // whoever has something to tell comes after us
	var slots []*slot
	var e []memtable.Extent
	a.locked(func() {
		if a.closed {
			err = ErrClosed
			return
		}
		a.followers = append(a.followers, f)
		// What is just being announced to the others is announced to m here.
		slots, e = a.pick(func(s *slot) bool {
			return s.shared && s.announced && (s.state == arriving || s.state == live)
		})
	})
	if err == nil {
		err = f.arrive(ctx, a, slots, e)
	}
	if err != nil {
		a.locked(func() { a.followers = without(a.followers, f) })
	}
	<-f.turn
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return a.stop(ctx, f) }, nil
}

// stop takes everything back from f.
func (a *Arena) stop(ctx context.Context, f *follower) error {
	a.locked(func() { f.stopping = true })
	if err := f.take(ctx); err != nil {
		return err
	}
	var slots []*slot
	var e []memtable.Extent
	a.locked(func() {
		slots, e = a.pick(func(s *slot) bool { _, ok := f.known[s]; return ok })
	})
	err := f.leave(ctx, a, slots, e)
	if err == nil {
		a.locked(func() { a.followers = without(a.followers, f) })
	}
	<-f.turn
	if err != nil {
		return err
	}
	// What only f held back can go now. What cannot is somebody else's trouble,
	// and is shown.
	_ = a.Reclaim(ctx)
	return nil
}

// announce lets the extents of p arrive at all mirrors, in parallel. If one
// refuses, who has accepted is told by depart.
func (a *Arena) announce(ctx context.Context, p part) error {
	return a.each(func() (slots []*slot, e []memtable.Extent) {
		for i := range p.n {
			s := &p.c.slots[p.first+i]
			s.announced = true
			slots = append(slots, s)
		}
		return slots, p.extents()
	}, func(f *follower, slots []*slot, e []memtable.Extent) error {
		if err := f.take(ctx); err != nil {
			return &RefusedError{By: "a mirror that is busy", Err: err}
		}
		defer f.give()
		if err := f.arrive(ctx, a, slots, e); err != nil {
			return &RefusedError{By: "a mirror", Err: err}
		}
		return nil
	})
}

// leave lets all mirrors let go of p.
func (a *Arena) leave(ctx context.Context, p part) error {
	return a.each(func() (slots []*slot, e []memtable.Extent) {
		for i := range p.n {
			slots = append(slots, &p.c.slots[p.first+i])
		}
		return slots, p.extents()
	}, func(f *follower, slots []*slot, e []memtable.Extent) error {
		if err := f.take(ctx); err != nil {
			return err
		}
		defer f.give()
		return f.leave(ctx, a, slots, e)
	})
}

// each calls do for every mirror there is at the moment, in parallel, about the
// extents that pick gives. pick is called under mu, so that who follows later
// sees what it did.
func (a *Arena) each(pick func() ([]*slot, []memtable.Extent), do func(*follower, []*slot, []memtable.Extent) error) error {
	var all []*follower
	var slots []*slot
	var e []memtable.Extent
	a.locked(func() {
		all = slices.Clone(a.followers)
		slots, e = pick()
	})
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, f := range all {
		wg.Go(func() { errs[i] = do(f, slots, e) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// pick gives the slots that do, by class and offset. mu is held.
func (a *Arena) pick(do func(s *slot) bool) (slots []*slot, e []memtable.Extent) {
	for _, c := range a.classes {
		for _, p := range c.all().runs(do) {
			for i := range p.n {
				slots = append(slots, &c.slots[p.first+i])
			}
			e = append(e, p.extents()...)
		}
	}
	return slots, e
}

func (f *follower) take(ctx context.Context) error {
	select {
	case f.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *follower) give() { <-f.turn }

// arrive tells the mirror of new extents, unless it is about to leave. The turn
// is held.
func (f *follower) arrive(ctx context.Context, a *Arena, slots []*slot, e []memtable.Extent) error {
	var quiet bool
	a.locked(func() { quiet = f.stopping || !slices.Contains(a.followers, f) })
	if quiet || len(e) == 0 {
		return nil
	}
	if err := f.m.Arrive(ctx, e); err != nil {
		return err
	}
	a.locked(func() {
		for _, s := range slots {
			f.known[s] = struct{}{}
		}
	})
	return nil
}

// leave takes from the mirror those of the extents that it knows. The turn is
// held.
func (f *follower) leave(ctx context.Context, a *Arena, slots []*slot, e []memtable.Extent) error {
	var known []*slot
	var back []memtable.Extent
	a.locked(func() {
		for i, s := range slots {
			if _, ok := f.known[s]; ok {
				known, back = append(known, s), append(back, e[i])
			}
		}
	})
	if len(back) == 0 {
		return nil
	}
	if err := f.m.Leave(ctx, back); err != nil {
		return err
	}
	a.locked(func() {
		for _, s := range known {
			delete(f.known, s)
		}
	})
	return nil
}
