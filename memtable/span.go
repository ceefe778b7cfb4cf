package memtable

import (
	"cmp"
	"math"
	"slices"
)

// Span is the full answer for the n bytes at a: where they begin, and how many
// of them are contiguous here. Fewer than n means that memory goes on at
// a+length in another place: ask again for the rest. A range that begins in
// no region, or whose piece is followed by a hole, or that wraps around at 2^64,
// is a *[RangeError].
//
// Regions that touch are one piece where they touch here too, in one mapping.
func (t *Table[A]) Span(a A, n uint64) (v VA, length uint64, err error) {
	v, length, reason := t.piece(uint64(a), n)
	if reason != "" {
		return VA{}, 0, &RangeError{kindOf[A](), uint64(a), n, reason}
	}
	return v, length, nil
}

// Append appends the n bytes at a to dst, in as many pieces as they take. If
// any of them is nowhere, dst comes back as it was, with a *[RangeError].
func (t *Table[A]) Append(dst [][]byte, a A, n uint64) ([][]byte, error) {
	out := dst
	for at, rest := uint64(a), n; ; {
		v, length, reason := t.piece(at, rest)
		if reason != "" {
			return dst, &RangeError{kindOf[A](), uint64(a), n, reason}
		}
		if length > 0 {
			out = append(out, v.Bytes(length))
		}
		if length == rest {
			return out, nil
		}
		at, rest = at+length, rest-length
	}
}

// piece gives the first contiguous piece of a range, and what is wrong with it.
func (x *index) piece(a, n uint64) (v VA, length uint64, reason string) {
	i, ok := x.find(a)
	switch {
	case !ok:
		return VA{}, 0, reasonNowhere
	case n > 0 && n-1 > math.MaxUint64-a:
		return VA{}, 0, reasonWrap
	}
	s := &x.spans[i]
	off := a - s.addr
	v, length = s.va.Add(off), s.size-off
	for length < n {
		// The range goes on past s, and does not wrap: so neither does final+1.
		if i++; i == len(x.spans) || x.spans[i].addr != s.final()+1 {
			return VA{}, 0, reasonEnd
		}
		next := &x.spans[i]
		if next.mem != s.mem || next.va.number() != s.va.number()+uintptr(s.size) {
			return v, length, ""
		}
		s, length = next, length+next.size
	}
	return v, min(length, n), ""
}

// hostRange is a part of a region, by where it lies in this process.
type hostRange struct {
	start, end uintptr
	region     int
}

// Reverse finds the address of a byte of ours, and how many bytes its region
// has from there on. Memory that several regions show has several addresses:
// any of them may come.
func (t *Table[A]) Reverse(v VA) (a A, n uint64, ok bool) {
	t.reverse.Do(func() { t.byHost = hostOrder(t.spans) })
	at := v.number()
	i, exact := slices.BinarySearchFunc(t.byHost, at, func(h hostRange, at uintptr) int {
		return cmp.Compare(h.start, at)
	})
	if !exact {
		i-- // the last that starts before
	}
	if i < 0 || at >= t.byHost[i].end {
		return 0, 0, false
	}
	s := &t.spans[t.byHost[i].region]
	off := uint64(at - s.va.number())
	return A(s.addr + off), s.size - off, true
}

// hostOrder sorts spans by where they lie here. Spans may show the same memory;
// what an earlier one covers is cut off, so that the result is free of overlap
// and can be searched.
func hostOrder(spans []span) []hostRange {
	order := make([]hostRange, 0, len(spans))
	for i := range spans {
		start := spans[i].va.number()
		order = append(order, hostRange{start, start + uintptr(spans[i].size), i})
	}
	slices.SortFunc(order, func(a, b hostRange) int { return cmp.Compare(a.start, b.start) })
	disjoint := order[:0]
	var covered uintptr
	for _, h := range order {
		h.start = max(h.start, covered)
		if h.start < h.end {
			disjoint, covered = append(disjoint, h), h.end
		}
	}
	return disjoint
}
