package memfd

import (
	"math/bits"
	"slices"
)

// lentMemory is how many bytes of each extent heaps, zones and pools have lent.
type lentMemory map[*class][]uint64

// add counts memory that is lent, wherever its extents begin and end.
func (l lentMemory) add(a *Arena, at, size uint64) {
	for _, c := range a.everywhere() {
		off := at - c.first
		if off >= uint64(len(c.mem)) {
			continue
		}
		if end := (off + max(size, 1) - 1) / c.unit; end >= uint64(len(l[c])) {
			l[c] = append(l[c], make([]uint64, end+1-uint64(len(l[c])))...)
		}
		for size > 0 {
			n := min(size, c.unit-off%c.unit)
			l[c][off/c.unit] += n
			off, size = off+n, size-n
		}
		return
	}
}

// layHeaps tells of heaps and of what zones are made of.
func (a *Arena) layHeaps(lent lentMemory) []HeapLayout {
	all := []HeapLayout{}
	for _, h := range a.Heaps() {
		all = append(all, h.store.layout(a, lent, h.o.Page, h.o.Node))
	}
	z := &a.users.zones
	z.mu.Lock()
	both := []*store{z.strict, z.loose}
	z.mu.Unlock()
	for _, s := range slices.Compact(both) {
		if s == nil {
			continue
		}
		if l := s.layout(a, lent, 0, AnyNode); l.Stats.Mapped > 0 {
			all = append(all, l)
		}
	}
	return all
}

// layout looks at a store, some chunks at a time: a piece of memory that is
// split or joined meanwhile may be counted twice or not at all.
func (s *store) layout(a *Arena, lentTo lentMemory, page uint64, node int) HeapLayout {
	l := HeapLayout{Owner: s.owner, Shared: s.shared, Page: page, Node: node, Free: []FreeList{}}
	var lists [64]FreeList
	seen := make([]chunk, 0, piecesOf)
	for at, more := 0, true; more; at += piecesOf {
		s.mu.Lock()
		c := &s.chunks
		c.clearShelf()
		end := min(at+piecesOf, len(c.all))
		seen = append(seen[:0], c.all[min(at, end):end]...)
		more = end < len(c.all)
		l.Stats = HeapStats{Allocations: c.lent, Mapped: c.size, Used: c.used, Free: c.size - c.used,
			Greatest: l.Stats.Greatest, Grown: s.grown, Returned: s.returned}
		s.mu.Unlock()
		for i := range seen {
			switch one := &seen[i]; one.mood {
			case lent:
				lentTo.add(a, one.addr, one.size)
			case vacant, shelved:
				lentTo.add(a, one.addr, 0) // a heap's, even if nothing of it is lent
				list := &lists[bits.Len64(one.size)-1]
				list.Count++
				list.Bytes += one.size
				l.Stats.Greatest = max(l.Stats.Greatest, one.size)
			}
		}
	}
	for i, list := range lists {
		if list.Count > 0 {
			list.Least = 1 << i
			l.Free = append(l.Free, list)
		}
	}
	return l
}

func (a *Arena) layZones() []ZoneLayout {
	all := []ZoneLayout{}
	for _, z := range a.Zones() {
		l := ZoneLayout{Name: z.Name, VA: Address(numberOf(z.VA)), Addr: Address(z.Addr), Size: z.Size}
		if c, _ := a.classOf(z.VA); c != nil {
			l.Page = c.page
		}
		all = append(all, l)
	}
	return all
}

// layPools tells of pools. A buffer in a worker's cache counts as lent: it is
// not to be had by anybody else.
func (a *Arena) layPools(lent lentMemory) []PoolLayout {
	all := []PoolLayout{}
	for _, p := range a.Pools() {
		all = append(all, PoolLayout{Name: p.name, Buffer: uint64(p.o.Size), Stride: p.stride,
			Page: p.o.Page, Node: p.o.Node, Stats: p.Stats()})
		p.mu.Lock()
		for _, s := range p.order {
			// Which buffers of a slab are lent its workers know: they are
			// spread over it.
			if used := uint64(len(s.places)-len(s.stack)) * p.stride; used > 0 {
				lent.spread(a, numberOf(s.va), s.size, used)
			}
		}
		p.mu.Unlock()
	}
	return all
}

// spread counts used bytes evenly over the extents of a slab.
func (l lentMemory) spread(a *Arena, at, size, used uint64) {
	for _, c := range a.everywhere() {
		if at-c.first >= uint64(len(c.mem)) {
			continue
		}
		n := size / c.unit
		for i := range n {
			if one := used*(i+1)/n - used*i/n; one > 0 {
				l.add(a, at+i*c.unit, min(one, c.unit))
			}
		}
		return
	}
}
