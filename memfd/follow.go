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
	known    map[*slot]bool // what m can reach; false: what it is about to be told of
	stopping bool           // it hears of nothing new
}

// Follow announces all shared memory to m, and from then on every change, until
// stop. It implements memtable.Source. m may look at the arena from within its
// methods, and must not allocate from it.
//
// If m does not let go when it is stopped, stop gives the error and can be
// called again; what m holds is quarantined as it is freed.
func (a *Arena) Follow(ctx context.Context, m memtable.Mirror) (stop func(context.Context) error, err error) {
	f := &follower{m: m, turn: make(chan struct{}, 1), known: make(map[*slot]bool)}
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
		f.expect(slots)
	})
	if err == nil {
		err = f.arrive(ctx, a, slots, e)
	}
	if err != nil {
		a.locked(func() { a.followers, f.stopping = without(a.followers, f), true })
	}
	f.give()
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
		slots, e = a.pick(func(s *slot) bool { return f.known[s] })
	})
	err := f.leave(ctx, a, slots, e)
	if err == nil {
		a.locked(func() { a.followers = without(a.followers, f) })
	}
	f.give()
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
	var all []*follower
	var slots []*slot
	var e []memtable.Extent
	// At once, so that who follows later hears of p from Follow and not here.
	a.locked(func() {
		slots, e = p.pointers(), p.extents()
		for _, s := range slots {
			s.announced = true
		}
		all = slices.Clone(a.followers)
		for _, f := range all {
			f.expect(slots)
		}
	})
	return inParallel(all, func(f *follower) error {
		if err := f.take(ctx); err != nil {
			a.locked(func() { f.forget(slots) })
			return &RefusedError{By: "a mirror that is busy", Err: err}
		}
		defer f.give()
		if err := f.arrive(ctx, a, slots, e); err != nil {
			return &RefusedError{By: "a mirror", Err: err}
		}
		return nil
	})
}

// leave lets the mirrors that know some of p let go of it. Others, who may be
// busy, are not waited for.
func (a *Arena) leave(ctx context.Context, p part) error {
	var all []*follower
	var slots []*slot
	var e []memtable.Extent
	a.locked(func() {
		slots, e = p.pointers(), p.extents()
		for _, f := range a.followers {
			if f.concerned(slots) {
				all = append(all, f)
			}
		}
	})
	return inParallel(all, func(f *follower) error {
		if err := f.take(ctx); err != nil {
			return err
		}
		defer f.give()
		return f.leave(ctx, a, slots, e)
	})
}

// inParallel does the same with all mirrors.
func inParallel(all []*follower, do func(*follower) error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, f := range all {
		wg.Go(func() { errs[i] = do(f) })
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

// pointers gives the slots of p.
func (p part) pointers() []*slot {
	slots := make([]*slot, p.n)
	for i := range slots {
		slots[i] = &p.c.slots[p.first+i]
	}
	return slots
}

// take waits for the turn.
func (f *follower) take(ctx context.Context) error {
	select {
	case f.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *follower) give() { <-f.turn }

// expect, forget and concerned are about what the mirror knows. Arena.mu is held.
func (f *follower) expect(slots []*slot) {
	for _, s := range slots {
		f.known[s] = false
	}
}

func (f *follower) forget(slots []*slot) {
	for _, s := range slots {
		delete(f.known, s)
	}
}

func (f *follower) concerned(slots []*slot) bool {
	return len(f.known) > 0 && slices.ContainsFunc(slots, func(s *slot) bool { _, ok := f.known[s]; return ok })
}

// arrive tells the mirror of extents that it expects, unless it has been
// stopped. The turn is held.
func (f *follower) arrive(ctx context.Context, a *Arena, slots []*slot, e []memtable.Extent) error {
	var quiet bool
	a.locked(func() {
		if quiet = f.stopping; quiet {
			f.forget(slots)
		}
	})
	if quiet || len(e) == 0 {
		return nil
	}
	err := f.m.Arrive(ctx, e)
	a.locked(func() {
		if err != nil {
			f.forget(slots)
			return
		}
		for _, s := range slots {
			f.known[s] = true
		}
	})
	return err
}

// leave takes from the mirror those of the extents that it knows. The turn is
// held.
func (f *follower) leave(ctx context.Context, a *Arena, slots []*slot, e []memtable.Extent) error {
	var known []*slot
	var back []memtable.Extent
	a.locked(func() {
		for i, s := range slots {
			if f.known[s] {
				known, back = append(known, s), append(back, e[i])
			}
		}
	})
	if len(back) == 0 {
		return nil
	}
	err := f.m.Leave(ctx, back)
	if err == nil {
		a.locked(func() { f.forget(known) })
	}
	return err
}
