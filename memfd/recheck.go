package memfd

import (
	"context"
	"errors"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// rechecks is how often Recheck begins anew when pages move while it looks.
const rechecks = 4

// checked is an extent whose address was asked for again.
type checked struct {
	p      part // of one extent
	answer uint64
	pinned bool
	now    memtable.IOVA
}

// Recheck asks for the physical addresses of all memory again, and gives the
// extents that moved, with the addresses that ByIOVA and Addr know from now on.
// Without physical addresses there is nothing to do.
//
// Only what is pinned is sure to stay: the kernel moves other pages when it
// compacts memory, and swaps system pages out. Who pins nothing and yet tells
// physical addresses to a device must stop the device over this call and look
// at the result. A buffer that is lent carries the address of before, and a
// mirror keeps knowing an extent by the address it arrived with: that they are
// wrong is reported here, and not mended.
//
// Pinned memory that moved is a *MovedError. Its record stays, since a device
// still uses it. Others that moved are told with the error.
func (a *Arena) Recheck(ctx context.Context) (moved []memtable.Extent, err error) {
	if a.o.IOVA == IOVAAsVA {
		return nil, nil
	}
	for range rechecks {
		var all []checked
		if all, err = a.askAgain(ctx); err != nil {
			return moved, err
		}
		var more []memtable.Extent
		var lied error
		more, lied, err = a.readdress(all)
		if moved = append(moved, more...); err == nil {
			return moved, errors.Join(lied, a.settle(ctx))
		}
		// Two pages cannot have one address: one of them has moved since.
	}
	return moved, errors.Join(errors.New("pages move faster than they can be looked at"), err)
}

// askAgain gives those of all extents whose address is not what it was.
func (a *Arena) askAgain(ctx context.Context) (all []checked, err error) {
	for _, c := range a.classes {
		var runs []part
		a.locked(func() { runs = c.all().runs(func(s *slot) bool { return s.settled() }) })
		for _, p := range runs {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			before := a.records(p)
			now, err := a.addresses(p)
			if err != nil {
				// What was swapped out has no address before it is used.
				if now, err = a.addressesOfTouched(p, err); err != nil {
					return nil, err
				}
			}
			for i := range now {
				if was := before[i]; was.now != now[i] {
					was.now = now[i]
					all = append(all, was)
				}
			}
		}
	}
	return all, nil
}

// settled tells that a slot has an address that others may use.
func (s *slot) settled() bool {
	return s.listed && (s.state == idle || s.state == arriving || s.state == live)
}

// records takes down what is known of the extents of p before they are looked
// at: what changed afterwards is not for us to judge.
func (a *Arena) records(p part) []checked {
	all := make([]checked, p.n)
	a.locked(func() {
		for i := range all {
			one := p.one(i)
			s := &p.c.slots[one.first]
			all[i] = checked{p: one, answer: s.answer, pinned: s.pins > 0, now: s.addr}
		}
	})
	return all
}

// addressesOfTouched brings p into memory and asks again. What is released
// meanwhile has no address, and that is no error.
func (a *Arena) addressesOfTouched(p part, err error) ([]memtable.IOVA, error) {
	if e := a.k.touch(p.mem()); e != nil {
		err = errors.Join(err, e)
	} else {
		var now []memtable.IOVA
		if now, err = a.addresses(p); err == nil {
			return now, nil
		}
	}
	var gone bool
	a.locked(func() { gone = len(p.runs(func(s *slot) bool { return !s.settled() })) > 0 })
	if gone {
		return nil, nil
	}
	return nil, err
}

// readdress publishes other addresses, all at once. lied is about those that are
// pinned.
func (a *Arena) readdress(all []checked) (moved []memtable.Extent, lied, err error) {
	a.listing.Lock()
	defer a.listing.Unlock()
	byClass := make(map[*class][]checked)
	a.locked(func() {
		for _, one := range all {
			s := &one.p.c.slots[one.p.first]
			switch {
			case s.answer != one.answer || !s.settled(): // it went, and may have come back
			case one.pinned:
				lied = errors.Join(lied, &MovedError{VA: one.p.va(), Size: one.p.size(), Was: s.addr, Now: one.now})
			case s.pins > 0: // who pinned it meanwhile has looked
			default:
				byClass[one.p.c] = append(byClass[one.p.c], one)
			}
		}
	})
	if len(byClass) == 0 {
		return nil, lied, nil
	}
	var ch change
	for _, c := range a.classes {
		a.moveIn(&ch, c, byClass[c])
	}
	if err := a.publish(ch); err != nil {
		return nil, lied, err
	}
	a.locked(func() {
		for _, c := range a.classes {
			for _, one := range byClass[c] {
				s := &c.slots[one.p.first]
				a.answers++
				s.addr, s.answer = one.now, a.answers
				s.note()
				moved = append(moved, one.p.extents()...)
			}
		}
	})
	return moved, lied, nil
}

// moveIn adds to a change that some extents of c have other addresses. listing is
// held.
func (a *Arena) moveIn(ch *change, c *class, all []checked) {
	var old, fresh []piece
	a.locked(func() {
		for _, one := range all {
			off := one.p.offset()
			old = append(old, piece{uint64(c.slots[one.p.first].addr), off, c.unit})
			fresh = append(fresh, piece{uint64(one.now), off, c.unit})
		}
	})
	slices.SortFunc(old, byIOVA)
	both := slices.Concat(old, fresh) // new neighbours are joined
	slices.SortFunc(both, byIOVA)
	remove := a.regions(c, both, 1)
	a.put(ch, c, remove, joined(append(c.cut(remove, old), fresh...)))
}
