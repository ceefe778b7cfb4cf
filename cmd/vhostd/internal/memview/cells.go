package memview

import (
	"math"
	"math/bits"

	"github.com/vhostd/vhostd/memfd"
)

// kind is what memory is used for, as far as the map tells it apart.
type kind int

const (
	used kind = iota
	usedShared
	vacant
	vacantShared
	idle
	moving
	quarantined
	lost
	kinds
)

// cell is a place on the map: one extent, or several that follow one another.
type cell struct {
	share  [kinds]float64 // of its bytes
	pinned float64
	about  int // block that most of it is in; -1: none
	most   float64
}

// grid is the map of a class, from the beginning of its reservation to the end of
// the last block.
type grid struct {
	c      *memfd.ClassLayout
	cell   uint64 // bytes
	extent uint64 // bytes
	blocks []int  // that are drawn
	cells  []cell
}

// newGrid cuts a class into cells, most at most.
func newGrid(c *memfd.ClassLayout, most int) *grid {
	g := &grid{c: c, extent: max(c.Extent, 1)}
	var end uint64
	for i := range c.Blocks {
		// By offset, as they are told: each costs its own cells and no more.
		if from, to, ok := g.place(&c.Blocks[i]); ok && from >= end {
			g.blocks = append(g.blocks, i)
			end = to
		}
	}
	n := (max(end, 1)-1)/g.extent + 1
	per := uint64(1)
	if n > uint64(most) {
		per = 1 << bits.Len64((n-1)/uint64(most))
	}
	if g.cell = g.extent * per; g.cell/per != g.extent {
		g.cell = math.MaxUint64 // no such extents exist
	}
	if end == 0 {
		return g
	}
	g.cells = make([]cell, (end-1)/g.cell+1)
	for i := range g.cells {
		g.cells[i].about = -1
	}
	for _, i := range g.blocks {
		g.paint(i)
	}
	return g
}

// place tells where in the reservation a block is; ok is false if it is not.
func (g *grid) place(b *memfd.BlockLayout) (from, to uint64, ok bool) {
	from = uint64(b.VA - g.c.VA)
	if b.VA < g.c.VA || b.Size == 0 || from > g.c.Space || b.Size > g.c.Space-from {
		return 0, 0, false
	}
	return from, from + b.Size, true
}

// paint adds block i to the cells that it lies in.
func (g *grid) paint(i int) {
	b := &g.c.Blocks[i]
	from, to, _ := g.place(b)
	share := sharesOf(b)
	for at := from; at < to; {
		n := at / g.cell
		next := to
		if n < math.MaxUint64/g.cell {
			next = min(to, (n+1)*g.cell)
		}
		part := float64(next-at) / float64(g.cell)
		c := &g.cells[n]
		for k := range share {
			c.share[k] += share[k] * part
		}
		c.pinned += part * ratio(b.Amounts.Pinned, b.Size)
		if part > c.most {
			c.about, c.most = i, part
		}
		at = next
	}
}

// sharesOf gives the parts of a block by kind. They may leave some: holes of a
// block that is mixed.
func sharesOf(b *memfd.BlockLayout) (s [kinds]float64) {
	a := &b.Amounts
	s[used], s[vacant] = ratio(a.Used, b.Size), ratio(a.Vacant, b.Size)
	s[idle], s[moving] = ratio(a.Idle, b.Size), ratio(a.Moving, b.Size)
	s[quarantined], s[lost] = ratio(a.Quarantined, b.Size), ratio(a.Lost, b.Size)
	if both := s[used] + s[vacant]; both > 0 {
		shared := min(ratio(a.Shared, b.Size)/both, 1)
		s[usedShared], s[vacantShared] = s[used]*shared, s[vacant]*shared
		s[used] -= s[usedShared]
		s[vacant] -= s[vacantShared]
	}
	return s
}

// ratio is a part of a whole, 1 at most.
func ratio(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return min(float64(part)/float64(whole), 1)
}
