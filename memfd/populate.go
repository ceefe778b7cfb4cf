package memfd

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// populate gives memory to the extents of p that have none. On an error none
// of them has any.
func (a *Arena) populate(p part) error {
	c := p.c
	c.work.Lock()
	defer c.work.Unlock()
	var fresh []part
	var size uint64
	a.locked(func() { fresh = p.runs(func(s *slot) bool { return !s.mapped }) })
	for _, r := range fresh {
		size += r.size()
	}
	if size == 0 {
		return nil
	}
	if err := a.available(c, size); err != nil {
		return err
	}
	if c.file == nil {
		f, err := openFile(a.k, a.fileName(c), c.page, c.huge)
		if err != nil {
			return err
		}
		a.locked(func() { c.setFile(f) })
	}
	for i, r := range fresh {
		if err := a.back(r); err != nil {
			for _, done := range fresh[:i] {
				a.rollback(done)
			}
			a.closeEmpty(c)
			return err
		}
	}
	return nil
}

// fileName is what /proc/self/maps shows.
func (a *Arena) fileName(c *class) string {
	name := fmt.Sprintf("%s-%dk", a.o.Name, c.page>>10)
	if c.node >= 0 {
		name += fmt.Sprintf("-node%d", c.node)
	}
	return name
}

// back gives p memory: first pages, then a mapping of them.
func (a *Arena) back(p part) error {
	c, fd := p.c, p.c.file.fd
	// A call that fails may have taken some of the pages.
	a.mark(p, func(s *slot) { s.pages, s.node = true, c.node; c.held++ })
	if err := a.k.allocate(fd, int64(p.offset()), int64(p.size()), where{c.node, c.wish}); err != nil {
		err = a.shortOfPages(c, p.size(), err)
		a.discard(p)
		return err
	}
	// And one that fails may have torn a hole in the reservation.
	a.mark(p, func(s *slot) { s.mapped = true })
	err := a.mapPages(p)
	if err == nil {
		err = a.inspect(p)
	}
	if err != nil {
		a.rollback(p)
	}
	return err
}

// mapPages maps p, which is level with the file, from it.
func (a *Arena) mapPages(p part) error {
	err := a.k.mapFile(p.mem(), p.c.file.fd, p.c.inFile(p.first))
	if err == nil {
		err = a.k.undump(p.mem())
	}
	if errors.Is(err, unix.ENOMEM) {
		err = &ShortageError{What: "mappings", Node: p.c.node, Want: p.size(), Err: err,
			Advice: "allow more (vm.max_map_count, ulimit -v), or use larger pages or extents"}
	}
	return err
}

// rollback undoes back. If the reservation cannot be put back, what is at its
// place is unknown: it is never touched again.
func (a *Arena) rollback(p part) {
	err := a.k.hide(p.mem())
	a.mark(p, func(s *slot) { s.mapped = false })
	if err != nil {
		a.locked(func() { a.move(p, lost) })
	}
	a.discard(p)
}

// discard gives pages back that nobody has seen. Those that stay are
// quarantined.
func (a *Arena) discard(p part) {
	if err := a.punch(p); err != nil {
		a.locked(func() {
			for _, r := range p.runs(func(s *slot) bool { return s.state != lost }) {
				a.move(r, quarantined)
			}
		})
	}
}

// withdraw takes the memory of p out of the address space, and then out of the
// file. What an error leaves undone, the next call does.
func (a *Arena) withdraw(p part) error {
	if p.c.ext != nil {
		a.exclude(p.c)
		return nil
	}
	p.c.work.Lock()
	defer p.c.work.Unlock()
	var mapped, backed []part
	a.locked(func() {
		mapped = p.runs(func(s *slot) bool { return s.mapped })
		backed = p.runs(func(s *slot) bool { return s.pages })
	})
	for _, r := range mapped {
		if err := a.k.hide(r.mem()); err != nil {
			return err
		}
		a.mark(r, func(s *slot) { s.mapped = false })
	}
	for _, r := range backed {
		if err := a.punch(r); err != nil {
			return err
		}
	}
	a.closeEmpty(p.c)
	return nil
}

// punch gives the pages of p back to the kernel.
func (a *Arena) punch(p part) error {
	for _, r := range p.level() {
		if err := a.k.punch(r.c.file.fd, r.c.inFile(r.first), int64(r.size())); err != nil {
			return err
		}
		a.mark(r, func(s *slot) { s.pages = false; r.c.held-- })
	}
	return nil
}

// closeEmpty closes a file without pages. work is held.
func (a *Arena) closeEmpty(c *class) {
	var f *file
	a.locked(func() {
		if c.held == 0 {
			f = c.file
			c.setFile(nil)
		}
	})
	if f != nil {
		_ = a.k.close(f.fd) // Linux frees the descriptor whatever it answers
	}
}

// mark changes the slots of p.
func (a *Arena) mark(p part, f func(s *slot)) {
	a.locked(func() {
		for i := range p.n {
			s := &p.c.slots[p.first+i]
			f(s)
			s.note()
		}
	})
}
