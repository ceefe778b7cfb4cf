package memfd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// follower is a mirror that is told.
type follower struct {
	m    memtable.Mirror
	pins bool // what it can reach stays where it is in physical memory
	all  bool // it hears of what is private too: it is a process of ours, not a peer
	// turn is held over each call of m, which are one at a time. It is a
	// channel, so that waiting for it can end.
	turn chan struct{}

	// These are guarded by Arena.mu.
	known    map[*slot]heard // what m can reach, or is about to be told of
	stopping bool            // it hears of nothing new
}

// heard is how a mirror knows an extent: it lets go of what arrived, and is told
// neither that it moved nor that somebody pinned it meanwhile.
type heard struct {
	reached bool
	addr    memtable.IOVA
	pinned  bool
}

func newFollower(m memtable.Mirror) *follower {
	return &follower{m: m, turn: make(chan struct{}, 1), known: make(map[*slot]heard), pins: pins(m)}
}

// hears tells whether f is told of memory that is shared, or is not.
func (f *follower) hears(shared bool) bool { return shared || f.all }

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

// name is for people.
func (f *follower) name() string {
	if s, ok := f.m.(fmt.Stringer); ok {
		return s.String()
	}
	return "a mirror"
}

// expect, forget and concerned are about what the mirror knows. Arena.mu is held.
func (f *follower) expect(slots []*slot) {
	for _, s := range slots {
		f.known[s] = heard{}
	}
}

func (f *follower) forget(slots []*slot) {
	for _, s := range slots {
		if f.pins && f.known[s].reached {
			s.pins--
			s.note()
		}
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
		for i, s := range slots {
			f.known[s] = heard{true, e[i].Addr, e[i].Pinned}
			if f.pins {
				s.pins++
				s.note()
			}
		}
	})
	if err != nil || !f.pins {
		return err
	}
	// From now on they stay where they are: but are they where m was told?
	if err := a.verify(e); err != nil {
		return errors.Join(err, f.leave(context.WithoutCancel(ctx), a, slots, e))
	}
	return nil
}

// leave takes from the mirror those of the extents that it knows. The turn is
// held.
func (f *follower) leave(ctx context.Context, a *Arena, slots []*slot, e []memtable.Extent) error {
	var known []*slot
	var back []memtable.Extent
	a.locked(func() {
		for i, s := range slots {
			if t := f.known[s]; t.reached {
				e[i].Addr, e[i].Pinned = t.addr, t.pinned
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
