package memfd

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// ErrLegacy says that something does not exist in legacy mode, where all memory
// is mapped at the start, and stays.
var ErrLegacy = errors.New("legacy mode: all memory is mapped at the start, and stays")

// checkLegacy tests what contradicts legacy mode.
func (o Options) checkLegacy(system uint64) error {
	switch {
	case !o.Legacy:
		return nil
	case o.NoHuge || slices.Contains(o.Pages, system):
		return errors.New("memfd: legacy mode without huge pages: system pages have no physical order that is worth having: " +
			"leave NoHuge out, or Legacy")
	case len(o.Limit) > 0 || len(o.PageLimit) > 0:
		return errors.New("memfd: legacy mode with a limit: nothing grows in it: say in Minimum how much it maps at the start")
	case o.Resolver == nil:
		return errors.New("memfd: legacy mode without a Resolver: it orders pages by their physical addresses")
	case len(o.Pages) == 0:
		return errors.New("memfd: legacy mode on a kernel without huge pages: system pages have no physical order that is worth having")
	}
	return nil
}

// pages are those of one size on a node.
type pages struct {
	size uint64 // of one, bytes
	node int
}

// legacyPages tells how many pages legacy mode maps: for the minimum, if there is
// one, those that come first in the order of preference, else all that are free.
func legacyPages(k kernel, o *Options) (map[pages]uint64, error) {
	n := make(map[pages]uint64)
	sum := uint64(0)
	for _, node := range o.Nodes {
		left := make(map[uint64]uint64)
		rest := o.Minimum[node]
		for _, size := range o.Pages {
			left[size] = hugeFree(k, size, node) / size
			take := left[size]
			if len(o.Minimum) > 0 {
				take = min(take, rest/size)
				rest -= take * size
			}
			n[pages{size, node}] = take
			left[size] -= take
			sum += take
		}
		// What is no whole page takes one of the smallest that are left.
		for _, size := range slices.Sorted(maps.Keys(left)) {
			if rest > 0 && left[size] > 0 && size > rest {
				n[pages{size, node}]++
				sum, rest = sum+1, 0
			}
		}
		if rest > 0 {
			return nil, &ShortageError{What: "free huge pages for the minimum", Node: node, Want: o.Minimum[node],
				Have: o.Minimum[node] - rest, Advice: "reserve more (" + hugeDir + "/*/nr_hugepages)"}
		}
	}
	if sum == 0 {
		return nil, &ShortageError{What: "free huge pages", Node: AnyNode, Want: slices.Min(o.Pages),
			Advice: "reserve some (" + hugeDir + "/*/nr_hugepages)"}
	}
	return n, nil
}

// newLegacyClass makes a class that has n pages, or as many as can be had if not
// exact. The pages lie in the order of their physical addresses, with a hole of
// one page before each that does not follow the one before it.
func (a *Arena) newLegacyClass(base uint64, of pages, n uint64, exact bool) (*class, error) {
	o := a.o
	o.Space = (2*n - 1) * of.size // the most that holes can take
	c, err := newClass(a.k, &o, base, of.size, of.node, true)
	if err != nil {
		return nil, err
	}
	if err := a.furnish(c, int(n), exact); err != nil {
		c.forget()
		// The memory goes with the last of both.
		err = errors.Join(err, a.k.unmap(c.mem))
		if c.file != nil {
			_ = a.k.close(c.file.fd)
		}
		return nil, err
	}
	return c, nil
}

// forget ends that faults are blamed on c.
func (c *class) forget() {
	for _, m := range c.exact {
		_ = m.Close() // of wrapped memory: nothing is unmapped
	}
}

// furnish maps the pages of a class that nobody knows yet.
func (a *Arena) furnish(c *class, n int, exact bool) error {
	f, err := openFile(a.k, a.fileName(c), c.page, c.huge)
	if err != nil {
		return err
	}
	c.setFile(f)
	if n, err = a.obtain(c, n, exact); err != nil {
		return err
	}
	if c.places, err = a.physicalOrder(c, n); err != nil {
		return err
	}
	if rest := c.mem[len(c.places)*int(c.unit):]; len(rest) > 0 {
		if err := a.k.unmap(rest); err != nil {
			return fmt.Errorf("giving back address space: %w", err)
		}
		c.mem = c.mem[: len(c.mem)-len(rest) : len(c.mem)-len(rest)]
		c.slots, c.index = c.slots[:len(c.places)], c.index[:len(c.places)]
	}
	for i, place := range c.places {
		if place >= 0 {
			c.slots[i].pages, c.slots[i].mapped = true, true
		}
	}
	c.held = n
	for _, p := range c.mapped() {
		for _, r := range p.level() {
			if err := a.mapPages(r); err != nil {
				return err
			}
			if err := a.inspect(r); err != nil {
				return err
			}
			// Regions of look-ups cross pages that do not follow one another
			// in the file: these know where in it each lies.
			c.exact = append(c.exact, memtable.Wrap(r.mem(), f.id, c.inFile(r.first), c))
		}
	}
	return nil
}

// obtain takes n pages, or as many as there are, but one at least.
func (a *Arena) obtain(c *class, n int, exact bool) (got int, err error) {
	for step := n; got < n; {
		step = min(step, n-got)
		err := a.k.allocate(c.file.fd, int64(got)*int64(c.page), int64(step)*int64(c.page), where{c.node, c.wish})
		switch {
		case err == nil:
			got += step
			continue
		case exact || step == 1 && got == 0 || !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.ENOMEM):
			return 0, a.shortOfPages(c, uint64(n)*c.page, err)
		}
		if step /= 2; step == 0 {
			// A call that failed may have taken some.
			return got, a.k.punch(c.file.fd, int64(got)*int64(c.page), int64(n-got)*int64(c.page))
		}
	}
	return got, nil
}

// physicalOrder tells which of n pages of the file comes at which place; -1: none.
func (a *Arena) physicalOrder(c *class, n int) (places []int, err error) {
	all := part{c, 0, n}
	if err := a.mapPages(all); err != nil {
		return nil, err
	}
	type page struct {
		pa    memtable.PA
		place int
	}
	order := make([]page, n)
	for i := range order {
		va := all.one(i).va()
		pa, length, err := a.o.Resolver.Resolve(va, c.page)
		switch {
		case err == nil && pa == 0:
			err = errors.New("it is hidden")
		case err == nil && length < c.page:
			err = fmt.Errorf("only %d bytes are in one piece", length)
		}
		if err != nil {
			return nil, fmt.Errorf("legacy mode orders pages by their physical addresses, and that of %v is not known: %w: "+
				"to see it takes CAP_SYS_ADMIN: run as root, or give the program this capability (setcap cap_sys_admin+ep)", va, err)
		}
		order[i] = page{pa, i}
	}
	if err := a.k.hide(all.mem()); err != nil {
		return nil, err
	}
	slices.SortFunc(order, func(x, y page) int { return cmp.Compare(x.pa, y.pa) })
	for i, p := range order {
		if i > 0 && p.pa != order[i-1].pa+memtable.PA(c.page) {
			places = append(places, -1)
		}
		places = append(places, p.place)
	}
	return places, nil
}

// mapped gives the runs that are mapped.
func (c *class) mapped() []part { return c.all().runs(func(s *slot) bool { return s.mapped }) }

// level cuts p where it goes on elsewhere in the file.
func (p part) level() (all []part) {
	if p.c.places == nil {
		return []part{p}
	}
	for p.n > 0 {
		n := 1
		for n < p.n && p.c.places[p.first+n] == p.c.places[p.first]+n {
			n++
		}
		all, p = append(all, p.head(n)), p.after(n)
	}
	return all
}

// byOffset puts extents, and the slots that they tell of, in the order of the
// file. Where that is the order of addresses they are in it.
func (c *class) byOffset(slots []*slot, e []memtable.Extent) ([]*slot, []memtable.Extent) {
	if c.places == nil {
		return slots, e
	}
	order := make([]int, len(e))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int { return cmp.Compare(e[x].Offset, e[y].Offset) })
	sorted, extents := make([]*slot, len(e)), make([]memtable.Extent, len(e))
	for to, from := range order {
		sorted[to], extents[to] = slots[from], e[from]
	}
	return sorted, extents
}

// furnishAll makes the classes of legacy mode, with all their memory.
func (a *Arena) furnishAll() error {
	n, err := legacyPages(a.k, &a.o)
	if err != nil {
		return err
	}
	base := a.o.Base
	for _, size := range a.o.Pages {
		for _, node := range a.o.Nodes {
			of := pages{size, node}
			if n[of] == 0 {
				continue
			}
			c, err := a.newLegacyClass(base, of, n[of], len(a.o.Minimum) > 0)
			if err != nil {
				return err
			}
			base = a.add(c, base)
			if err := a.occupy(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// occupy makes the memory of a class nobody's, and lets look-ups find it.
func (a *Arena) occupy(c *class) error {
	for _, p := range c.mapped() {
		a.locked(func() { a.move(p, idle) })
		err := a.resolve(p, false)
		if err == nil {
			err = a.list(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
