package memfd

import (
	"fmt"

	"github.com/vhostd/vhostd/memtable"
)

// A secondary that wants external memory has that of it that has a file, from
// when it arrives or is asked for until it leaves. What it does not want the
// arena takes for its own all the same: it lets go of that without being told.

// wants tells whether the secondary wants external memory of a name. mu is held.
func (q *peer) wants(name string) bool {
	if chosen, ok := q.chosen[name]; ok {
		return chosen
	}
	return q.eager
}

// choose says whether it does from now on, and tells what was said before.
func (q *peer) choose(name string, want bool) (before bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	before = q.wants(name)
	q.chosen[name] = want
	return before
}

// lacks tells whether it wants external memory and has it not. mu is held.
func (q *peer) lacks(c *class) bool { return q.wants(c.ext.name) && !q.has(c) }

// has tells whether it has external memory mapped, or may have. mu is held.
func (q *peer) has(c *class) bool {
	_, ok := q.attached[c]
	return ok
}

// sieve leaves of extents those of external memory out that do not.
func (q *peer) sieve(e []memtable.Extent, do func(c *class) bool) (rest []memtable.Extent) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, x := range e {
		c, _ := q.p.a.classOf(x.VA)
		if c != nil && (c.ext == nil || c.file != nil && do(c)) {
			rest = append(rest, x)
		}
	}
	return rest
}

// mark remembers what external memory the secondary has, or has no more.
func (q *peer) mark(e []memtable.Extent, has bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, x := range e {
		c, _ := q.p.a.classOf(x.VA)
		switch {
		case c == nil || c.ext == nil:
		case has:
			q.attached[c] = struct{}{}
		default:
			delete(q.attached, c)
		}
	}
}

// outside gives the external memory of a name that has arrived.
func (q *peer) outside(name string) (e []memtable.Extent, err error) {
	a := q.p.a
	known, filed := false, false
	a.locked(func() {
		for _, c := range a.outside.all() {
			if c.ext.name != name {
				continue
			}
			known, filed = true, filed || c.file != nil
			for _, p := range c.all().runs(func(s *slot) bool { return q.f.known[s].reached }) {
				e = append(e, p.extents()...)
			}
		}
	})
	switch {
	case !known:
		return nil, fmt.Errorf("%q: %w", printable(name), ErrUnknown)
	case !filed:
		return nil, fmt.Errorf("%q: %w", printable(name), ErrNoFile)
	}
	return e, nil
}

// attach has the secondary map the external memory of a name, and what comes of
// that name from now on; or not any more.
func (q *peer) attach(name string, want bool) error {
	if err := q.f.take(q.ctx); err != nil {
		return err
	}
	defer q.f.give() // what arrives or leaves meanwhile comes after us
	e, err := q.outside(name)
	if err != nil {
		return err
	}
	before := q.choose(name, want)
	if want {
		err = q.Arrive(q.ctx, e)
	} else {
		err = q.Leave(q.ctx, e)
	}
	if err != nil {
		q.choose(name, before)
	}
	return err
}

// reaches tests that the secondary has what lies at va.
func (q *peer) reaches(va memtable.VA) error {
	c, _ := q.p.a.classOf(va)
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case c == nil || c.ext == nil || q.has(c):
		return nil
	case c.file == nil:
		return ErrNoFile
	default:
		return ErrNotAttached
	}
}
