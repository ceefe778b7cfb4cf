package memtable

import "math/bits"

// IndexInfo tells which index a table got, for `show`.
type IndexInfo struct {
	Kind  string // "flat", "two-level", "search"
	Frame uint64 // size of a frame in bytes; 0 for "search"
	Bytes uint64 // memory of the index, shared parts included
}

// index finds the memory of an address. Address space is cut into frames, as
// large as all bounds of regions allow; an entry is the VA of a frame that lies
// wholly in one region, or the zero VA: then the spans are searched. Entries
// are addresses, not differences, so that they may point into Go memory.
type index struct {
	base  uint64 // address of frame 0, a multiple of the frame size
	mask  uint64 // frame size - 1
	shift uint8  // log2 of the frame size
	last  uint64 // the entry of flat that is always zero: past the last frame
	flat  []VA   // never empty

	first uint64  // two-level: the number, by address, of dir's first leaf
	dir   []*leaf // two-level: nil where there is no region

	spans []span // all regions, sorted
	bytes uint64
}

// leaf is the lower level of the two-level index: 4 KiB for 512 frames. It is
// immutable once its table is published, and then shared with later tables.
type leaf [1 << leafBits]VA

const (
	leafBits  = 9
	leafBytes = 8 << leafBits
	minShift  = 12 // frames smaller than a page would only serve oddities
)

// span is a region without its type.
type span struct {
	addr, size uint64
	va         VA
	mem        *Mapping
}

// final is the address of the last byte, which cannot wrap as the end can.
func (s *span) final() uint64 { return s.addr + (s.size - 1) }

// extent is a range of addresses by its first and its last byte.
type extent struct{ first, final uint64 }

// noFlat serves every table without a flat index.
var noFlat = make([]VA, 1)

// makeIndex picks the fastest index that fits in bound bytes. What spans costs
// its sender to name must not decide what it costs us to index: everything is
// counted before it is made.
func makeIndex(spans []span, bound uint64, old *index, changed []extent) index {
	x := index{spans: spans, flat: noFlat, shift: minShift, mask: 1<<minShift - 1}
	if len(spans) == 0 {
		return x
	}
	var union uint64 // its lowest bit is the largest power that divides all
	for i := range spans {
		union |= spans[i].addr | spans[i].size
	}
	x.shift = uint8(max(minShift, bits.TrailingZeros64(union)))
	x.mask = 1<<x.shift - 1

	low, high := spans[0].addr, spans[len(spans)-1].final()
	frames := high>>x.shift - low>>x.shift + 1 // at most 2^52
	if (frames+1)*8 <= bound {
		x.base = low &^ x.mask
		x.last = frames
		x.bytes = (frames + 1) * 8
		x.fillFlat()
		return x
	}
	if x.countLeaves(low, high) <= bound {
		x.fillLeaves(old, changed)
	}
	return x
}

// whole gives the range of frames, by address, that lie wholly in s.
func (x *index) whole(s *span) (from, to uint64) {
	from = s.addr >> x.shift
	if s.addr&x.mask != 0 {
		from++
	}
	to = s.final() >> x.shift
	if s.final()&x.mask == x.mask {
		to++
	}
	return from, to
}

func (x *index) fillFlat() {
	x.flat = make([]VA, x.last+1)
	first := x.base >> x.shift
	for i := range x.spans {
		s := &x.spans[i]
		from, to := x.whole(s)
		for f := from; f < to; f++ {
			x.flat[f-first] = s.va.Add(f<<x.shift - s.addr)
		}
	}
}

// leafOf is the number of the leaf that has the frame of an address.
func (x *index) leafOf(a uint64) uint64 { return a >> x.shift >> leafBits }

// countLeaves gives the memory that a two-level index would take, and lays down
// its range.
func (x *index) countLeaves(low, high uint64) (size uint64) {
	x.first = x.leafOf(low)
	var leaves uint64
	next := x.first // the first leaf not counted yet
	for i := range x.spans {
		from, to := x.leafOf(x.spans[i].addr), x.leafOf(x.spans[i].final())+1
		leaves += to - min(to, max(from, next))
		next = to
	}
	x.bytes = 8*(x.leafOf(high)-x.first+1) + leafBytes*leaves
	return x.bytes
}

// fillLeaves makes the two-level index; countLeaves said that it fits. Leaves
// of old that no change touches are taken over.
func (x *index) fillLeaves(old *index, changed []extent) {
	size := x.leafOf(x.spans[len(x.spans)-1].final()) - x.first + 1
	x.dir = make([]*leaf, size)
	if old != nil && old.dir != nil && old.shift == x.shift {
		for i := range x.dir {
			if j := x.first + uint64(i) - old.first; j < uint64(len(old.dir)) {
				x.dir[i] = old.dir[j]
			}
		}
		for _, c := range changed {
			from := max(x.leafOf(c.first), x.first)
			to := min(x.leafOf(c.final)+1, x.first+size)
			for n := from; n < to; n++ {
				x.dir[n-x.first] = nil
			}
		}
	}
	fresh := make([]bool, size)
	for i := range x.spans {
		s := &x.spans[i]
		for n := x.leafOf(s.addr); n <= x.leafOf(s.final()); n++ {
			if i := n - x.first; x.dir[i] == nil {
				x.dir[i], fresh[i] = new(leaf), true
			}
			if fresh[n-x.first] {
				x.fillLeaf(n, s)
			}
		}
	}
}

// fillLeaf enters what leaf n has of s.
func (x *index) fillLeaf(n uint64, s *span) {
	from, to := x.whole(s)
	from = max(from, n<<leafBits)
	to = min(to, (n+1)<<leafBits)
	l := x.dir[n-x.first]
	for f := from; f < to; f++ {
		l[f%(1<<leafBits)] = s.va.Add(f<<x.shift - s.addr)
	}
}

// Index tells which index the table got.
func (t *Table[A]) Index() IndexInfo {
	switch {
	case t.dir != nil:
		return IndexInfo{"two-level", t.mask + 1, t.bytes}
	case t.last > 0 || len(t.spans) == 0:
		return IndexInfo{"flat", t.mask + 1, t.bytes}
	default:
		return IndexInfo{Kind: "search"}
	}
}
