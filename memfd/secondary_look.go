package memfd

import (
	"cmp"
	"iter"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// Extents gives all memory that is mapped here, of each file from offset 0 on,
// as it is now. A file descriptor in it is good until the extent is gone.
func (s *Secondary) Extents() (all []memtable.Extent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range slices.Concat(s.spaces, s.outside) {
		var of []memtable.Extent
		for _, v := range m.have {
			of = append(of, v.e)
		}
		slices.SortFunc(of, func(x, y memtable.Extent) int { return cmp.Compare(x.Offset, y.Offset) })
		all = append(all, of...)
	}
	return all
}

// Walk goes through what Extents gives. Extents of one file that follow one
// another here and for devices, and are alike otherwise, come as one.
func (s *Secondary) Walk() iter.Seq[memtable.Extent] { return runsOf(s.Extents) }

// Lookup gives the extent that va lies in; ok is false if nothing is mapped
// there.
func (s *Secondary) Lookup(va memtable.VA) (e memtable.Extent, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, v := s.find(numberOf(va)); v != nil {
		return v.e, true
	}
	return e, false
}

// find gives what is mapped at an address. mu is held.
func (s *Secondary) find(at uint64) (*mirrored, *view) {
	for _, m := range s.spaces {
		if off := at - m.first; off < m.size {
			return m, m.have[uint32(off/m.unit)]
		}
	}
	i, exact := s.external(at)
	if !exact {
		i-- // the one that begins below
	}
	if i < 0 || at-s.outside[i].first >= s.outside[i].size {
		return nil, nil
	}
	m := s.outside[i]
	return m, m.have[uint32((at-m.first)/m.unit)]
}

// place makes a pointer of an address that the primary gave, if all n bytes
// there are mapped.
func (s *Secondary) place(at, n uint64) (va memtable.VA, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, v := s.find(at)
	if v == nil || n == 0 || n > m.size-(at-m.first) {
		return va, false
	}
	last := uint32((at - m.first + n - 1) / m.unit)
	for i := uint32((at - m.first) / m.unit); i <= last; i++ {
		if m.have[i] == nil {
			return va, false
		}
	}
	return m.base.Add(at - m.first), true
}

// ByIOVA gives the table of all that is mapped, by the addresses that devices
// are told; extents in it are regions of their own. r is the proof that the
// caller is inside a section of AttachOptions.Domain; it may be nil for who knows
// that nothing is freed meanwhile.
func (s *Secondary) ByIOVA(r *memtable.Reader) *memtable.Table[memtable.IOVA] { return s.table.Load(r) }

// list makes look-ups find runs. work is held.
func (s *Secondary) list(runs []stretch) error {
	views := s.views(runs, func(v *view) bool { return !v.listed && v.e.Addr != memtable.NoIOVA })
	next, err := s.table.Current().With(regionsOf(views), nil)
	if err == nil {
		s.swap(next, views, true)
	}
	return err
}

// unlist makes look-ups find runs no more. work is held.
func (s *Secondary) unlist(runs []stretch) error {
	views := s.views(runs, func(v *view) bool { return v.listed })
	next, err := s.table.Current().With(nil, regionsOf(views))
	if err == nil {
		s.swap(next, views, false)
	}
	return err
}

// swap publishes a table in which views are listed, or are not.
func (s *Secondary) swap(next *memtable.Table[memtable.IOVA], views []*view, listed bool) {
	s.table.Swap(next)
	for _, v := range views {
		v.listed = listed
	}
}

// clear makes look-ups by addresses for devices find nothing.
func (s *Secondary) clear() error {
	empty, err := memtable.New[memtable.IOVA](nil, memtable.Options{IndexBytes: indexBytes})
	if err == nil {
		s.table.Swap(empty)
	}
	return err
}

func regionsOf(views []*view) []memtable.Region[memtable.IOVA] {
	all := make([]memtable.Region[memtable.IOVA], len(views))
	for i, v := range views {
		all[i] = memtable.Region[memtable.IOVA]{Addr: v.e.Addr, Size: v.e.Size, Mem: v.mem}
	}
	return all
}

// views gives what is mapped of runs, and does.
func (s *Secondary) views(runs []stretch, do func(*view) bool) (all []*view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range runs {
		for i := range r.n {
			if v := r.m.have[r.first+i]; v != nil && do(v) {
				all = append(all, v)
			}
		}
	}
	return all
}

// Watch lets f hear of all memory that comes and goes here from now on. It is
// called by the one goroutine that follows the primary, before the primary knows
// that it was done: f must neither ask for memory nor close s, and holds up the
// primary.
func (s *Secondary) Watch(f func(Event)) (remove func()) {
	w := &watcher{f}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = append(s.watchers, w)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watchers = without(s.watchers, w)
	}
}

// extents tells of what is mapped of runs, each of which is of one page size.
func (s *Secondary) extents(runs []stretch) (all []Event) {
	for _, r := range runs {
		var e []memtable.Extent
		for _, v := range s.views([]stretch{r}, func(*view) bool { return true }) {
			e = append(e, v.e)
		}
		if len(e) > 0 {
			all = append(all, Event{Extents: e})
		}
	}
	return all
}

// tell tells all watchers.
func (s *Secondary) tell(kind EventKind, events []Event) {
	s.mu.Lock()
	all := slices.Clone(s.watchers)
	s.mu.Unlock()
	for _, e := range events {
		e.Kind = kind
		for _, w := range all {
			w.hear(e)
		}
	}
}
