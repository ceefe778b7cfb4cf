package memfd

import (
	"errors"
	"iter"

	"github.com/vhostd/vhostd/memtable"
)

// Extents gives all memory that is mapped, of each file from offset 0 on, as it
// is now. A file descriptor in it is good until the extent is gone.
func (a *Arena) Extents() []memtable.Extent {
	var all []memtable.Extent
	a.locked(func() {
		_, all = a.pick(func(s *slot) bool { return s.mapped })
	})
	return all
}

// Walk goes through what Extents gives. Extents of one file that follow one
// another here and for devices, and are alike otherwise, come as one.
func (a *Arena) Walk() iter.Seq[memtable.Extent] { return runsOf(a.Extents) }

// runsOf joins extents.
func runsOf(extents func() []memtable.Extent) iter.Seq[memtable.Extent] {
	return func(yield func(memtable.Extent) bool) {
		var run memtable.Extent
		for _, e := range extents() {
			if e.File == run.File && e.Tag == run.Tag && e.Offset == run.Offset+int64(run.Size) &&
				e.Addr == run.Addr+memtable.IOVA(run.Size) && numberOf(e.VA) == numberOf(run.VA)+run.Size {
				run.Size += e.Size
				continue
			}
			if run.Size > 0 && !yield(run) {
				return
			}
			run = e
		}
		if run.Size > 0 {
			yield(run)
		}
	}
}

// Runs gives what is handed out and shared, for memtable.MakePlan.
func (a *Arena) Runs() []memtable.Run {
	var shared []memtable.Extent
	a.locked(func() {
		_, shared = a.pick(func(s *slot) bool { return s.shared && s.state == live })
	})
	var runs []memtable.Run
	for _, e := range shared {
		if e.FD < 0 {
			continue // external memory that no peer can have
		}
		r := memtable.Run{File: e.File, Offset: uint64(e.Offset), Addr: uint64(e.Addr), Size: e.Size}
		if n := len(runs) - 1; n >= 0 {
			last := &runs[n]
			if last.File == r.File && last.Offset+last.Size == r.Offset && last.Addr+last.Size == r.Addr {
				last.Size += r.Size
				continue
			}
		}
		runs = append(runs, r)
	}
	return runs
}

// Regions tells how many regions the table of a peer needs for what is shared:
// for that and nothing else, and at least, with what lies between shared too.
// Where memory has one file and lies in its order, one can be enough; in legacy
// mode pages lie in another order, and hardly two of them share a region.
func (a *Arena) Regions() (exact, least int) {
	runs := a.Runs()
	if len(runs) == 0 {
		return 0, 0
	}
	least = 1
	if _, err := memtable.MakePlan(runs, least, 1); err != nil {
		if few, ok := errors.AsType[*memtable.PlanError](err); ok {
			least = few.Needed
		}
	}
	return len(runs), least
}

// extents is part.extents under the lock.
func (a *Arena) extents(p part) (e []memtable.Extent) {
	a.locked(func() { e = p.extents() })
	return e
}
