package vhost

import (
	"cmp"
	"math"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// lane is where extents can share a region: in one file, and as far apart here
// as for the peer.
type lane struct {
	file  memtable.FileID
	shift uint64 // user address less guest address
}

func laneOf(e memtable.Extent) lane {
	return lane{e.File, uint64(e.VA.UVA()) - uint64(e.Addr)}
}

// plan covers extents with at most so many regions (see [memtable.MakePlan]).
// Two regions never have an address in common, by either kind of address.
func plan(extents []memtable.Extent, regions int) ([]sharedRegion, error) {
	var lanes []lane
	runs := make([]memtable.Run, len(extents))
	for i, e := range extents {
		k := slices.Index(lanes, laneOf(e))
		if k < 0 {
			k = len(lanes)
			lanes = append(lanes, laneOf(e))
		}
		// The plan knows files by their number, and takes a lane for one.
		runs[i] = memtable.Run{File: memtable.FileID{Ino: uint64(k)}, Offset: uint64(e.Offset), Addr: uint64(e.Addr), Size: e.Size}
	}
	p, err := memtable.MakePlan(runs, regions, 1)
	if err != nil {
		return nil, err
	}
	out := make([]sharedRegion, len(p.Regions))
	for i, r := range p.Regions {
		l := lanes[r.File.Ino]
		out[i] = sharedRegion{MemRegion{
			GPA: memtable.GPA(r.Addr), Size: r.Size, UVA: memtable.UVA(r.Addr + l.shift), Offset: r.Offset,
		}, l.file}
	}
	if overlapUVA(out) {
		// A gap was closed over memory that lies elsewhere for the peer: only
		// physical addresses do that. Without closed gaps there is none.
		return nil, &memtable.PlanError{Regions: regions, Needed: regions + 1}
	}
	return out, nil
}

// exact covers extents with regions that hold nothing else: each one its own,
// or those that touch together.
func exact(extents []memtable.Extent, join bool) ([]sharedRegion, error) {
	if join {
		return plan(extents, math.MaxInt)
	}
	var all []sharedRegion
	for _, e := range extents {
		one, err := plan([]memtable.Extent{e}, 1)
		if err != nil {
			return nil, err
		}
		all = append(all, one...)
	}
	return all, nil
}

// overlapUVA says whether two regions have a user address in common.
func overlapUVA(regions []sharedRegion) bool {
	sorted := slices.Clone(regions)
	slices.SortFunc(sorted, func(a, b sharedRegion) int { return cmp.Compare(a.UVA, b.UVA) })
	for i := 1; i < len(sorted); i++ {
		if uint64(sorted[i].UVA-sorted[i-1].UVA) < sorted[i-1].Size {
			return true
		}
	}
	return false
}

// sameRegions says whether a and b are the same, in any order.
func sameRegions(a, b []sharedRegion) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(r sharedRegion) bool { return !slices.Contains(b, r) })
}

// sharedBytes is how much regions make reachable.
func sharedBytes(regions []sharedRegion) (n uint64) {
	for _, r := range regions {
		n += r.Size
	}
	return n
}
