package memfd

import (
	"cmp"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// kind is what chunks have in common: the reservation they lie in. Memory of
// different page sizes or nodes is never joined, even if it touches.
type kind struct {
	page, unit uint64 // bytes; unit: of an extent, whose addresses are multiples of it
	node       int
	base       memtable.VA // of some block: the others are found from there
	start      uint64      // base as a number
	lot        *External   // what they lie in, if that is external memory
}

func (k *kind) serves(r *request) bool {
	return (r.page == 0 || r.page == k.page) && (r.node == AnyNode || r.node == k.node) &&
		(!r.known || k.lot == nil || k.lot.addressed())
}

// span is memory without a hole, here and, where that matters, for devices. It
// begins and ends with a chunk of mood edge.
type span struct {
	addr, size  uint64
	iova        uint64
	kind        uint16
	first, last uint32
	recent      []bool // by extent: it became vacant since the last sweep
}

func (p *span) end() uint64 { return p.addr + p.size }

// va gives the pointer for an address in chunks of a kind.
func (s *chunks) va(of uint16, addr uint64) memtable.VA {
	k := &s.kinds[of]
	return k.base.Add(addr - k.start)
}

// kindOf gives the number of a block's kind.
func (s *chunks) kindOf(b *block) uint16 {
	fresh := kind{page: b.Page, unit: b.Extent, node: b.Node, base: b.VA, start: numberOf(b.VA), lot: b.lot}
	for i := range s.kinds {
		if k := &s.kinds[i]; k.page == b.Page && k.node == b.Node && k.lot == b.lot {
			return uint16(i)
		}
	}
	if i := slices.Index(s.kinds, gone); i >= 0 {
		s.kinds[i] = fresh
		return uint16(i)
	}
	s.kinds = append(s.kinds, fresh)
	return uint16(len(s.kinds) - 1)
}

// gone is the kind of external memory that is not there any more.
var gone = kind{unit: most}

// has tells whether some of the memory is that of x.
func (s *chunks) has(x *External) bool {
	return slices.ContainsFunc(s.kinds, func(k kind) bool { return k.lot == x })
}

// dismiss takes out the external memory that begins at addr; ok is false, and
// nothing has happened, if some of it is lent.
func (s *chunks) dismiss(addr uint64) (ok bool) {
	p := s.spans[s.place(addr)-1]
	i := s.all[p.first].next
	if c := &s.all[i]; c.mood != vacant || c.size != p.size {
		return false
	}
	s.cut(i, p.addr, p.size)
	s.kinds[p.kind] = gone
	return true
}

// add puts new memory in, which is zero. It joins the memory before and behind
// it if it touches that; with flat, also in the addresses that devices are told.
func (s *chunks) add(b *block, flat bool) {
	p := span{addr: numberOf(b.VA), size: b.Size, iova: uint64(b.Addr), kind: s.kindOf(b)}
	fresh := s.make(chunk{addr: p.addr, size: p.size, iova: p.iova, kind: p.kind})
	p.first, p.last = s.make(chunk{mood: edge}), s.make(chunk{mood: edge})
	s.link(p.first, fresh)
	s.link(fresh, p.last)
	p.recent = make([]bool, b.Size/b.Extent)
	s.size += b.Size
	i := s.place(p.addr)
	s.spans = slices.Insert(s.spans, i, p)
	s.meet(i, flat)
	s.meet(i-1, flat)
	s.vacate(fresh)
}

// place gives the first span that begins behind addr.
func (s *chunks) place(addr uint64) int {
	i, _ := slices.BinarySearchFunc(s.spans, addr, func(p span, addr uint64) int {
		if p.addr <= addr {
			return -1
		}
		return 1
	})
	return i
}

// meet makes span i and the next one, if they touch.
func (s *chunks) meet(i int, flat bool) {
	if i < 0 || i+1 >= len(s.spans) {
		return
	}
	p, q := &s.spans[i], s.spans[i+1]
	if p.end() != q.addr || p.kind != q.kind || flat && p.iova+p.size != q.iova {
		return
	}
	s.link(s.all[p.last].prev, s.all[q.first].next)
	s.drop(p.last)
	s.drop(q.first)
	p.size, p.last, p.recent = p.size+q.size, q.last, append(p.recent, q.recent...)
	s.spans = slices.Delete(s.spans, i+1, i+2)
}

// whole gives the extents that lie in a chunk, as addresses.
func (s *chunks) whole(c *chunk) (from, to uint64) {
	unit := s.kinds[c.kind].unit
	from, to = up(c.addr, unit), c.end()&^(unit-1)
	return from, max(from, to)
}

// touch notes that memory from from to to, in the vacant chunk i, was in use
// until now. extents tells that whole extents are vacant with it.
func (s *chunks) touch(i uint32, from, to uint64) (extents bool) {
	c := &s.all[i]
	low, high := s.whole(c)
	unit := s.kinds[c.kind].unit
	low, high = max(low, from&^(unit-1)), min(high, up(to, unit))
	if low >= high {
		return false
	}
	p := &s.spans[s.place(c.addr)-1]
	for at := low; at < high; at += unit {
		p.recent[(at-p.addr)/unit] = true
	}
	return true
}

// extents are a run of them that is not ours any more.
type extents struct {
	va   memtable.VA
	size uint64
}

// sweep takes out the vacant extents that were vacant at the last sweep too, or
// all of them. more tells that there are others, for the next sweep.
func (s *chunks) sweep(all bool) (out []extents, more bool) {
	if len(s.kinds) == 0 {
		return nil, false
	}
	s.clearShelf()
	s.shelf.due = false
	least := slices.MinFunc(s.kinds, func(a, b kind) int { return cmp.Compare(a.unit, b.unit) }).unit
	var found []uint32
	for b := s.bins.next(binOf(least)); b >= 0; b = s.bins.next(b + 1) {
		for i := s.bins.head[b]; i != 0; i = s.all[i].after {
			found = append(found, i)
		}
	}
	for _, i := range found {
		c := &s.all[i]
		unit := s.kinds[c.kind].unit
		from, to := s.whole(c)
		for at := from; at < to; at += unit {
			// Spans change with every cut.
			p := &s.spans[s.place(at)-1]
			n := uint64(0)
			for at+n < to && (all || !p.recent[(at+n-p.addr)/unit]) {
				n += unit
			}
			if n > 0 {
				out = append(out, extents{s.va(p.kind, at), n})
				i = s.cut(i, at, n)
				at += n
			}
			if at < to {
				p = &s.spans[s.place(at)-1]
				p.recent[(at-p.addr)/unit] = false
				more = true
			}
		}
	}
	return out, more
}

// cut takes n bytes at addr out of the vacant chunk i, and its span apart. It
// gives the chunk behind them; 0: there is none.
func (s *chunks) cut(i uint32, addr, n uint64) (rest uint32) {
	s.remove(i)
	if lead := addr - s.all[i].addr; lead > 0 {
		whole := i
		i = s.split(whole, lead)
		s.insert(whole)
	}
	if s.all[i].size > n {
		rest = s.split(i, n)
		s.insert(rest)
	}
	at := s.place(addr) - 1
	low := s.spans[at]
	high, unit := low, s.kinds[low.kind].unit
	lead := addr - low.addr
	high.addr, high.size, high.iova = addr+n, low.end()-(addr+n), low.iova+lead+n
	high.recent = slices.Clone(low.recent[(lead+n)/unit:])
	low.size, low.recent = lead, low.recent[:lead/unit]

	low.last, high.first = s.make(chunk{mood: edge}), s.make(chunk{mood: edge})
	s.link(s.all[i].prev, low.last)
	s.link(high.first, s.all[i].next)
	s.drop(i)
	s.size -= n
	var kept []span
	for _, p := range []span{low, high} {
		if p.size > 0 {
			kept = append(kept, p)
			continue
		}
		s.drop(p.first)
		s.drop(p.last)
	}
	s.spans = slices.Replace(s.spans, at, at+1, kept...)
	return rest
}
