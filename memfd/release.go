package memfd

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/vhostd/vhostd/memtable"
)

// QuarantineError says that memory could not be taken back: a mirror did not
// let go of it, a worker is late, or a system call failed. It stays mapped and
// unused until Arena.Reclaim succeeds, or the mirror is stopped.
type QuarantineError struct {
	VA   memtable.VA
	Size uint64 // bytes
	Err  error
}

func (e *QuarantineError) Error() string {
	return fmt.Sprintf("%s at %v are quarantined: %v", bytesText(e.Size), e.VA, e.Err)
}

func (e *QuarantineError) Unwrap() error { return e.Err }

// release takes back whole extents from va on, of which nothing is in use any
// more: that is the caller's promise. After a *QuarantineError they are not the
// caller's any more either.
func (a *Arena) release(ctx context.Context, va memtable.VA, size uint64) error {
	var p part
	var err error
	a.locked(func() {
		if p, err = a.part(va, size); err != nil {
			return
		}
		for _, s := range p.slots() {
			if s.state != live {
				err = fmt.Errorf("%s at %v: part of it is %v, not live", bytesText(size), va, s.state)
				return
			}
		}
		a.move(p, leaving)
	})
	if err != nil {
		return err
	}
	a.tell(Event{Kind: Leaving, Extents: a.extents(p)})
	return a.depart(ctx, p)
}

// part finds the extents from va on. mu is held.
func (a *Arena) part(va memtable.VA, size uint64) (part, error) {
	c, off := a.classOf(va)
	if c == nil || size == 0 || off%c.unit != 0 || size%c.unit != 0 || size > uint64(len(c.mem))-off {
		return part{}, fmt.Errorf("%s at %v are no extents of this arena", bytesText(size), va)
	}
	return part{c, int(off / c.unit), int(size / c.unit)}, nil
}

// depart is the way back of extents that are leaving: mirrors let go; what the
// minimum needs is cleared and kept; the rest is taken out of the look-ups,
// waited for, unmapped and given to the kernel.
func (a *Arena) depart(ctx context.Context, p part) error {
	for {
		err := a.leave(ctx, p)
		if err == nil {
			break
		}
		// Who held on may have let go since, and what only it held is then
		// reclaimed by whoever stopped it, or here: never by neither.
		held := false
		a.locked(func() {
			if held = a.concerned(p); held {
				a.move(p, quarantined)
			}
		})
		if held {
			return &QuarantineError{VA: p.va(), Size: p.size(), Err: err}
		}
	}
	if a.keepPinned(p) {
		return &QuarantineError{VA: p.va(), Size: p.size(), Err: fmt.Errorf("it is pinned: %w", ErrBusy)}
	}
	stay, gone := a.divide(p)
	return errors.Join(a.stay(stay), a.goneFor(ctx, gone))
}

// stay keeps extents for the minimum.
func (a *Arena) stay(p part) error {
	if p.n == 0 {
		return nil
	}
	e := a.told(p)
	// The peer had the memory until now, so clearing it may fault.
	if err := memtable.Guard(func() error { clear(p.mem()); return nil }); err != nil {
		return a.quarantine(p, err)
	}
	a.end(p, idle, e)
	return nil
}

// told gives those of p that watchers know.
func (a *Arena) told(p part) (e []memtable.Extent) {
	a.locked(func() { e = p.told() })
	return e
}

// end puts extents in the state that they stay in. Before anybody can have them
// again, those who knew them are told that they are gone.
func (a *Arena) end(p part, in state, told []memtable.Extent) {
	if len(told) > 0 {
		a.tell(Event{Kind: Gone, Extents: told})
	}
	a.locked(func() { a.move(p, in) })
}

// goneFor gives extents back to the kernel.
func (a *Arena) goneFor(ctx context.Context, p part) error {
	if p.n == 0 {
		return nil
	}
	e := a.told(p)
	if err := a.unlist(p); err != nil {
		return a.quarantine(p, err)
	}
	if err := a.settle(ctx); err != nil {
		return a.quarantine(p, err)
	}
	if err := a.withdraw(p); err != nil {
		return a.quarantine(p, err)
	}
	a.end(p, free, e)
	return nil
}

// settle waits until no worker can be inside with what look-ups found before,
// and closes the mappings that are replaced. They stay if a worker is late.
func (a *Arena) settle(ctx context.Context) error {
	var stale []*memtable.Mapping
	a.locked(func() { stale, a.stale = a.stale, nil })
	if a.o.Domain != nil {
		if err := a.o.Domain.Wait(ctx); err != nil {
			a.locked(func() { a.stale = append(a.stale, stale...) })
			return err
		}
	}
	for _, m := range stale {
		_ = m.Close() // of wrapped memory: nothing is unmapped
	}
	return nil
}

// divide says what of p stays for the minimum, the lowest extents, and what may
// go. What look-ups do not find, because it did not come so far, goes anyway.
func (a *Arena) divide(p part) (stay, gone part) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	least := a.o.Minimum[p.c.node]
	if a.o.Legacy && !a.closed {
		least = math.MaxUint64
	}
	if least > 0 && p.c.ext == nil {
		rest := a.usage[p.c.node].firm() - p.size() // without p
		for n < p.n && p.c.slots[p.first+n].listed && rest+uint64(n)*p.c.unit < least {
			n++
		}
	}
	stay, gone = p.head(n), p.after(n)
	a.move(gone, going)
	return stay, gone
}

// quarantine keeps p out of use.
func (a *Arena) quarantine(p part, err error) error {
	a.locked(func() { a.move(p, quarantined) })
	return &QuarantineError{VA: p.va(), Size: p.size(), Err: err}
}

// Reclaim tries again to take back what is quarantined. The error tells what
// still is.
func (a *Arena) Reclaim(ctx context.Context) error {
	var parts []part
	a.locked(func() {
		for _, c := range a.everywhere() {
			parts = append(parts, c.all().runs(func(s *slot) bool { return s.state == quarantined })...)
		}
		for _, p := range parts {
			a.move(p, leaving)
		}
	})
	var err error
	for _, p := range parts {
		err = errors.Join(err, a.depart(ctx, p))
	}
	return err
}
