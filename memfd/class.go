package memfd

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/vhostd/vhostd/memtable"
)

// class is the memory of one page size on one node: a reservation, cut into
// extents, and the file they come from. Extent i is at i times the size of an
// extent, in the reservation and in the file. Each piece of external memory is a
// class too, whose reservation and file are not ours.
type class struct {
	page uint64 // bytes
	node int
	wish bool // other nodes will do too
	huge bool
	unit uint64 // size of an extent, bytes

	shift uint8 // log2 of unit; 63 where there is one extent of any size

	ext   *External // whose memory it is; nil: the arena's
	start int64     // where in the file it begins, bytes

	// In legacy mode, which page of the file each extent is; -1: it is a hole.
	// nil: that of the same number.
	places []int
	exact  []*memtable.Mapping // of what is level with the file, in legacy mode

	count *usage // what its extents are counted in

	mem   []byte // the reservation; most of it must not be touched
	base  memtable.VA
	first uint64 // base as a number

	// index and shown are what look-ups read without a lock.
	index []atomic.Uint64 // an entry for each slot
	shown atomic.Pointer[file]

	// work is held over the system calls that change file and mappings, and
	// never over anybody else's code. It comes before Arena.mu.
	work sync.Mutex

	// These are guarded by Arena.mu. The file is changed under both locks.
	file  *file // nil: there are no pages
	slots []slot
	held  int   // slots that have pages in the file
	low   int   // no slot below it is free
	own   usage // of this class alone; what is free does not count
}

// mostExtents is how many extents a class may have: what is known of so many takes
// a gigabyte. It is 64 GiB of pages of 4 KiB, where each is an extent.
const mostExtents = 1 << 24

// newClass reserves the address space of a class: from base on, if that is not 0.
func newClass(k kernel, o *Options, base, page uint64, node int, huge bool) (*class, error) {
	c := &class{page: page, node: node, wish: o.Policy == NodeWish, huge: huge, unit: page}
	if !huge {
		c.unit = o.Extent
	}
	n := min((o.Space-1)/c.unit+1, mostExtents)
	var err error
	if base != 0 {
		c.mem, err = reserveAt(k, base, n*c.unit, c.unit)
	} else {
		c.mem, err = reserve(k, n*c.unit, c.unit)
	}
	if err != nil {
		return nil, err
	}
	// A mapping that is closed again: holes must not be taken for memory by
	// whoever looks for the cause of a fault.
	w := memtable.Wrap(c.mem, memtable.FileID{}, 0, nil)
	c.base, c.first = w.VA(), addressOf(c.mem)
	_ = w.Close() // of wrapped memory: nothing is unmapped
	c.makeSlots(int(n))
	c.shift = uint8(bits.TrailingZeros64(c.unit))
	return c, nil
}

// makeSlots makes n slots that are free, and the index that shows them.
func (c *class) makeSlots(n int) {
	c.slots, c.index = make([]slot, n), make([]atomic.Uint64, n)
	for i := range c.slots {
		c.slots[i].seen, c.slots[i].node = &c.index[i], c.node
	}
}

// inFile gives the offset in the file of extent i.
func (c *class) inFile(i int) int64 {
	if c.places != nil {
		i = c.places[i]
	}
	return c.start + int64(i)*int64(c.unit)
}

// owner is who is blamed for a fault.
func (c *class) owner() any {
	if c.ext != nil {
		return c.ext
	}
	return c
}

// String is for whoever shows the owner of a memtable.FaultError.
func (c *class) String() string { return "our own memory in pages of " + bytesText(c.page) }

// part is a run of extents of one class.
type part struct {
	c        *class
	first, n int
}

func (p part) offset() uint64   { return uint64(p.first) * p.c.unit }
func (p part) size() uint64     { return uint64(p.n) * p.c.unit }
func (p part) mem() []byte      { return p.c.mem[p.offset():][:p.size()] }
func (p part) va() memtable.VA  { return p.c.base.Add(p.offset()) }
func (p part) addr() uint64     { return p.c.first + p.offset() }
func (p part) slots() []slot    { return p.c.slots[p.first:][:p.n] }
func (p part) one(i int) part   { return part{p.c, p.first + i, 1} }
func (p part) head(n int) part  { return part{p.c, p.first, n} }
func (p part) after(n int) part { return part{p.c, p.first + n, p.n - n} }

// runs cuts p into the longest runs of slots that do. Arena.mu is held.
func (p part) runs(do func(s *slot) bool) []part {
	var runs []part
	for i := range p.n {
		at := p.first + i
		if !do(&p.c.slots[at]) {
			continue
		}
		if last := len(runs) - 1; last >= 0 && runs[last].first+runs[last].n == at {
			runs[last].n++
			continue
		}
		runs = append(runs, part{p.c, at, 1})
	}
	return runs
}

// all is the whole class.
func (c *class) all() part { return part{c, 0, len(c.slots)} }

// find gives the lowest run of n extents that are free or idle; rather one that
// is all idle, because that costs nothing. Arena.mu is held.
func (c *class) find(n int) (p part, ok bool) {
	if p, _ = c.search(n, func(s state) bool { return s == idle }); p.n == n {
		return p, true
	}
	p, _ = c.search(n, c.grows)
	return p, p.n == n
}

// grows tells whether an extent in a state can be had. In legacy mode what is
// free is a hole.
func (c *class) grows(s state) bool { return s == idle || s == free && c.places == nil }

// search gives the lowest run of n extents in states that do, or none, and then
// how long the longest run is.
func (c *class) search(n int, do func(s state) bool) (p part, longest int) {
	run := 0
	for i := c.low; i < len(c.slots); i++ {
		if !do(c.slots[i].state) {
			run = 0
			continue
		}
		if run++; run == n {
			return part{c, i + 1 - n, n}, n
		}
		longest = max(longest, run)
	}
	return part{}, longest
}

// told gives those extents of p that watchers know. Arena.mu is held.
func (p part) told() (e []memtable.Extent) {
	for _, r := range p.runs(func(s *slot) bool { return s.told }) {
		e = append(e, r.extents()...)
	}
	return e
}

// extents tells of the extents of p. Arena.mu is held.
func (p part) extents() []memtable.Extent {
	e := make([]memtable.Extent, p.n)
	for i := range e {
		e[i] = p.c.extent(uint64(p.first+i), p.c.slots[p.first+i].entry(), p.c.file)
	}
	return e
}
