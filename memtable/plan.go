package memtable

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Run is a range of memory in one file: what an owner uses, or a region that a
// peer is to map.
type Run struct {
	File   FileID
	Offset uint64 // in the file, bytes
	Addr   uint64 // where the owner has it, and the peer is told that it is
	Size   uint64 // bytes
}

// end is the address behind the run. Checked runs do not wrap.
func (r Run) end() uint64 { return r.Addr + r.Size }

// level says whether r and o lie in one file and are as far apart there as in
// address: only then can one region hold both.
func (r Run) level(o Run) bool {
	return r.File == o.File && o.Addr-r.Addr == o.Offset-r.Offset
}

// Plan is the compact region table over what an owner uses: the least memory
// shared but unused that so many regions allow. The plan of the same runs is
// the same, in whatever order they came.
type Plan struct {
	Regions []Run  // by address, disjoint
	Used    uint64 // bytes in the runs
	Shared  uint64 // bytes in the regions
}

// Waste is how many bytes are shared and not used.
func (p *Plan) Waste() uint64 { return p.Shared - p.Used }

// PlanError says that the runs do not fit in so many regions: they lie in more
// files, or places, than there may be regions.
type PlanError struct {
	Regions int // that there may be
	Needed  int // that there must be at least
}

func (e *PlanError) Error() string {
	return fmt.Sprintf("the memory in use needs at least %d regions and the peer takes %d: "+
		"use fewer page sizes and NUMA nodes, or a peer with memory slots", e.Needed, e.Regions)
}

// MakePlan covers runs with at most so many regions, whose bounds are multiples
// of align, a power of two: the page size, or 1. Runs on one level can share a
// region, and then the gap between them is shared too; the largest gaps stay
// open. Each gap that is closed saves one region, whichever it is, so closing
// the smallest ones is the least.
//
// Runs that are empty, overlap or wrap are refused with a *[RegionError], and
// more than fit with a *[PlanError].
func MakePlan(runs []Run, regions int, align uint64) (*Plan, error) {
	p := new(Plan)
	pieces, err := p.pieces(runs, align)
	if err != nil {
		return nil, err
	}
	closed, err := closeGaps(pieces, regions)
	if err != nil {
		return nil, err
	}
	for i, r := range pieces {
		if i > 0 && closed[i] {
			last := &p.Regions[len(p.Regions)-1]
			last.Size = r.end() - last.Addr
			continue
		}
		p.Regions = append(p.Regions, r)
	}
	for _, r := range p.Regions {
		p.Shared += r.Size
	}
	return p, nil
}

// pieces gives the runs by address, rounded outwards to align, those that touch
// on one level joined.
func (p *Plan) pieces(runs []Run, align uint64) ([]Run, error) {
	sorted := slices.Clone(runs)
	slices.SortFunc(sorted, func(a, b Run) int { return cmp.Compare(a.Addr, b.Addr) })
	var pieces []Run
	for i, r := range sorted {
		switch {
		case r.Size == 0 || r.Addr > math.MaxUint64-r.Size-align || r.Offset > math.MaxUint64-r.Size-align:
			return nil, r.fail(errors.New("is empty, or passes the end of the address space"))
		case i > 0 && r.Addr < sorted[i-1].end():
			return nil, r.fail(ErrOverlap)
		case (r.Addr^r.Offset)&(align-1) != 0:
			return nil, r.fail(fmt.Errorf("lies differently within %d bytes than in its file", align))
		}
		p.Used += r.Size
		lead := r.Addr & (align - 1)
		r.Addr, r.Offset = r.Addr-lead, r.Offset-lead
		r.Size = (r.Size + lead + align - 1) &^ (align - 1)
		if len(pieces) > 0 {
			last := &pieces[len(pieces)-1]
			switch {
			case last.level(r) && r.Addr <= last.end():
				last.Size = r.end() - last.Addr
				continue
			case r.Addr < last.end(): // rounded, two files would share a page
				return nil, r.fail(ErrOverlap)
			}
		}
		pieces = append(pieces, r)
	}
	return pieces, nil
}

// closeGaps chooses the gaps to close; closed[i] is the one before piece i.
func closeGaps(pieces []Run, regions int) (closed []bool, err error) {
	var gaps []int
	for i := 1; i < len(pieces); i++ {
		if pieces[i-1].level(pieces[i]) {
			gaps = append(gaps, i)
		}
	}
	surplus := max(0, len(pieces)-regions)
	if surplus > len(gaps) {
		return nil, &PlanError{Regions: regions, Needed: len(pieces) - len(gaps)}
	}
	slices.SortStableFunc(gaps, func(a, b int) int {
		return cmp.Compare(pieces[a].Addr-pieces[a-1].end(), pieces[b].Addr-pieces[b-1].end())
	})
	closed = make([]bool, len(pieces))
	for _, i := range gaps[:surplus] {
		closed[i] = true
	}
	return closed, nil
}

// Diff gives the regions of next that p lacks, and those of p that next lacks.
// replace says that one of the first overlaps one of the second: then there is
// no order in which a peer could be told of them one by one without either
// refusing an overlap or losing memory in use, and it needs the whole table.
func (p *Plan) Diff(next *Plan) (add, remove []Run, replace bool) {
	add = missing(p.Regions, next.Regions)
	remove = missing(next.Regions, p.Regions)
	for _, a := range add {
		replace = replace || slices.ContainsFunc(remove, func(r Run) bool {
			return a.Addr < r.end() && r.Addr < a.end()
		})
	}
	return add, remove, replace
}

// missing gives the runs of all that have does not have.
func missing(have, all []Run) []Run {
	known := make(map[Run]bool, len(have))
	for _, r := range have {
		known[r] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(r Run) bool { return known[r] })
}

func (r Run) fail(err error) error {
	return &RegionError{Kind: "shared", Addr: r.Addr, Size: r.Size, Err: err}
}
