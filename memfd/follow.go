package memfd

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/vhostd/vhostd/memtable"
)

// Follow announces all shared memory to m, and from then on every change, until
// stop. It implements memtable.Source. m may look at the arena from within its
// methods, and must not allocate from it.
//
// If m does not let go when it is stopped, stop gives the error and can be
// called again; what m holds is quarantined as it is freed.
func (a *Arena) Follow(ctx context.Context, m memtable.Mirror) (stop func(context.Context) error, err error) {
	f := newFollower(m)
	if err := a.follow(ctx, f); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return a.stop(ctx, f) }, nil
}

// follow is Follow for a follower that was made before.
func (a *Arena) follow(ctx context.Context, f *follower) (err error) {
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
			return f.hears(s.shared) && s.announced && (s.state == arriving || s.state == live)
		})
		f.expect(slots)
	})
	if err == nil {
		err = f.arrive(ctx, a, slots, e)
	}
	if err != nil {
		a.locked(func() {
			// What it did not let go of, Reclaim asks it for.
			if f.stopping = true; len(f.known) == 0 {
				a.followers = without(a.followers, f)
			}
		})
	}
	f.give()
	return err
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
		slots, e = a.pick(func(s *slot) bool { return f.known[s].reached })
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

// announce lets the extents of p arrive at all mirrors that hear of such, in
// parallel. If one refuses, who has accepted is told by depart.
func (a *Arena) announce(ctx context.Context, p part, shared bool) error {
	var all []*follower
	var slots []*slot
	var e []memtable.Extent
	// At once, so that who follows later hears of p from Follow and not here.
	a.locked(func() {
		slots, e = p.c.byOffset(p.pointers(), p.extents())
		for _, s := range slots {
			s.announced = true
		}
		for _, f := range a.followers {
			if f.hears(shared) {
				all = append(all, f)
				f.expect(slots)
			}
		}
	})
	return inParallel(all, func(f *follower) error {
		if err := f.take(ctx); err != nil {
			a.locked(func() { f.forget(slots) })
			return &RefusedError{By: f.name() + " that is busy", Err: err}
		}
		defer f.give()
		if err := f.arrive(ctx, a, slots, e); err != nil {
			return &RefusedError{By: f.name(), Err: err}
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
		if len(a.followers) == 0 {
			return
		}
		slots, e = p.c.byOffset(p.pointers(), p.extents())
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
	if len(all) == 0 {
		return nil
	}
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
	for _, c := range a.everywhere() {
		var of []*slot
		var in []memtable.Extent
		for _, p := range c.all().runs(do) {
			of, in = append(of, p.pointers()...), append(in, p.extents()...)
		}
		of, in = c.byOffset(of, in)
		slots, e = append(slots, of...), append(e, in...)
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

// concerned tells whether a mirror knows some of p, or is about to. mu is held.
func (a *Arena) concerned(p part) bool {
	slots := p.pointers()
	return slices.ContainsFunc(a.followers, func(f *follower) bool { return f.concerned(slots) })
}
