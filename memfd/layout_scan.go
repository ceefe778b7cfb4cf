package memfd

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// Bounds of a layout. Memory of a million pages is looked at in pieces, so that
// nobody who allocates waits for longer than a piece takes.
const (
	maxBlocks = 1 << 14 // of a class; where there are more, small ones are told together
	piecesOf  = 4096    // extents, or chunks of a heap, that are looked at under one lock
)

// The numbers of regions that peers take: of a whole table, and of slots.
var regionCounts = [...]int{8, 509}

// Layout tells what is reserved, mapped and handed out, and to whom. It looks
// at a large arena in pieces, so while memory comes and goes they may be of
// slightly different moments.
func (a *Arena) Layout() Layout {
	l := Layout{Name: a.o.Name, Settings: a.settings(),
		Classes: []ClassLayout{}, Mirrors: []MirrorLayout{}, Validators: []ValidatorLayout{}}
	lent := make(lentMemory)
	l.Heaps = a.layHeaps(lent)
	l.Zones = a.layZones()
	l.Pools = a.layPools(lent)
	var followers []*follower
	a.locked(func() {
		l.Nodes = a.layNodes()
		followers = slices.Clone(a.followers)
		for _, f := range followers {
			l.Mirrors = append(l.Mirrors, MirrorLayout{Private: f.all, Extents: len(f.known), Stopping: f.stopping})
		}
		for _, v := range a.validators {
			l.Validators = append(l.Validators, ValidatorLayout{v.name, v.node})
		}
	})
	for i, f := range followers {
		l.Mirrors[i].Name = f.label()
	}
	var runs []memtable.Run
	for _, c := range a.everywhere() {
		s := scan{a: a, c: c, lent: lent[c], runs: runs, grain: c.unit}
		l.Classes = append(l.Classes, s.class())
		runs = s.runs
	}
	for _, n := range regionCounts {
		l.Waste = append(l.Waste, wasteOf(runs, n))
	}
	return l
}

func (a *Arena) settings() Settings {
	s := Settings{Pages: []PageSetting{}, Space: a.o.Space, Base: Address(a.o.Base), Reserve: a.o.Reserve,
		Linger: a.o.Linger, IOVA: "va", Reason: a.o.IOVAReason, Bits: a.o.AddrBits, Wish: a.o.Policy == NodeWish,
		NoHuge: a.o.NoHuge, Legacy: a.o.Legacy}
	if a.o.IOVA == IOVAAsPA {
		s.IOVA = "pa"
	}
	for _, page := range a.o.Pages {
		limit, limited := a.o.PageLimit[page]
		s.Pages = append(s.Pages, PageSetting{page, limited, limit})
	}
	return s
}

// layNodes tells of the nodes. mu is held.
func (a *Arena) layNodes() (all []NodeLayout) {
	for _, node := range slices.Sorted(maps.Keys(a.usage)) {
		limit, limited := a.o.Limit[node]
		all = append(all, NodeLayout{Node: node, Minimum: a.o.Minimum[node], Limited: limited, Limit: limit,
			Mapped: a.usage[node].mapped()})
	}
	return all
}

// wasteOf plans the table for a peer that takes so many regions.
func wasteOf(runs []memtable.Run, regions int) WasteLayout {
	w := WasteLayout{Regions: regions}
	p, err := memtable.MakePlan(runs, regions, 1)
	if err != nil {
		w.Error = err.Error()
		if few, ok := errors.AsType[*memtable.PlanError](err); ok {
			w.Needed = few.Needed
		}
		return w
	}
	w.Needed, w.Used, w.Shared, w.Waste = len(p.Regions), p.Used, p.Shared, p.Waste()
	return w
}

// scan goes over the extents of a class.
type scan struct {
	a     *Arena
	c     *class
	lent  []uint64       // bytes, by extent
	runs  []memtable.Run // that are in use and shared
	grain uint64         // bytes
	held  ClassLayout
}

// class gives the layout, and adds to runs.
func (s *scan) class() ClassLayout {
	c := s.c
	s.held = ClassLayout{External: c.ext.Name(), Page: c.page, Node: c.node, Extent: c.unit, VA: Address(c.first), Space: uint64(len(c.mem)), Blocks: []BlockLayout{}}
	for at := 0; ; at += piecesOf {
		// Room is made before: nothing is copied under the lock.
		s.held.Blocks, s.runs = slices.Grow(s.held.Blocks, piecesOf), slices.Grow(s.runs, piecesOf)
		var more bool
		s.a.locked(func() { more = s.piece(at) })
		if !more {
			break
		}
		if len(s.held.Blocks) > maxBlocks {
			s.coarsen()
		}
	}
	for i := range s.held.Blocks {
		s.held.Sum.add(s.held.Blocks[i].Amounts)
	}
	s.held.Grain = s.grain
	return s.held
}

// piece looks at the extents from at on. mu is held.
func (s *scan) piece(at int) (more bool) {
	c := s.c
	if c.file != nil {
		s.held.File.Dev, s.held.File.Ino = c.file.id.Dev, c.file.id.Ino
		if c.ext == nil {
			s.held.File.Name = s.a.fileName(c)
		}
	}
	for i := at; i < min(at+piecesOf, len(c.slots)); i++ {
		one := &c.slots[i]
		if one.mapped {
			s.held.Mapped += c.unit
		}
		if one.pages {
			s.held.File.Held += c.unit
			s.held.File.Size = max(s.held.File.Size, uint64(c.inFile(i))+c.unit)
		}
		if one.state != free {
			s.extent(i, one)
		}
	}
	return at+piecesOf < len(c.slots)
}

// extent adds one extent.
func (s *scan) extent(i int, one *slot) {
	c := s.c
	off := uint64(i) * c.unit
	b := BlockLayout{VA: Address(c.first + off), Offset: uint64(c.inFile(i)), Size: c.unit, State: one.state.String(),
		Owner: one.owner, Node: one.node, Shared: one.shared, Pinned: one.pinned()}
	lent := c.unit // by somebody else, where it is somebody else's
	if c.ext == nil {
		lent = 0
	}
	if i < len(s.lent) {
		lent = s.lent[i]
	}
	b.Amounts = one.amounts(c.unit, lent)
	if one.shared && one.state == live && c.file != nil {
		s.run(memtable.Run{File: c.file.id, Offset: b.Offset, Addr: uint64(one.addr), Size: c.unit})
	}
	if n := len(s.held.Blocks) - 1; n >= 0 {
		last := &s.held.Blocks[n]
		if last.alike(&b) && last.end() == b.VA || last.within(&b, s.grain) {
			last.join(&b)
			return
		}
	}
	s.held.Blocks = append(s.held.Blocks, b)
}

// run adds memory that a peer must be told of.
func (s *scan) run(r memtable.Run) {
	if n := len(s.runs) - 1; n >= 0 {
		last := &s.runs[n]
		if last.File == r.File && last.Offset+last.Size == r.Offset && last.Addr+last.Size == r.Addr {
			last.Size += r.Size
			return
		}
	}
	s.runs = append(s.runs, r)
}

// coarsen tells small blocks together until there are half as many as may be.
func (s *scan) coarsen() {
	for len(s.held.Blocks) > maxBlocks/2 {
		s.grain *= 2
		joined := s.held.Blocks[:1]
		for _, b := range s.held.Blocks[1:] {
			if last := &joined[len(joined)-1]; last.within(&b, s.grain) {
				last.join(&b)
			} else {
				joined = append(joined, b)
			}
		}
		s.held.Blocks = joined
	}
}

// label is the name of a mirror, for whoever has several to tell apart.
func (f *follower) label() string {
	if s, ok := f.m.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%T", f.m)
}
