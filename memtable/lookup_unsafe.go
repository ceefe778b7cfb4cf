package memtable

import "unsafe"

// At answers with the memory of the n bytes at a, if all of them lie in one
// region; ranges over several regions are for [Table.Span]. n may be 0: then a
// itself must be in a region.
//
// This is the hot look-up, and it inlines: a range within one frame of a flat
// index is answered without a call. What does not fit there (frames that a
// range crosses or that are covered in part, the other indexes, n = 0,
// mistakes) is answered by a call to slow.
func (t *Table[A]) At(a A, n uint64) (v VA, ok bool) {
	v.p = look(&t.index, uint64(a), n, (*index).slow)
	return v, v.p != nil
}

// look is the look-up in a flat index. Its parts are chosen to fit the
// compiler's budget for inlining together with At (a test watches over it):
//   - slow is a parameter, because a call to a parameter is counted cheaper;
//   - everything past the table reads its last entry, which is nil;
//   - n-1 <= mask&^a is n <= frame-offset without a wrap, and sends n = 0 away.
func look(x *index, a, n uint64, slow func(x *index, a, n uint64) unsafe.Pointer) unsafe.Pointer {
	p := x.flat[min((a-x.base)>>(x.shift&63), x.last)].p
	if p == nil || n-1 > x.mask&^a {
		return slow(x, a, n)
	}
	return unsafe.Add(p, a&x.mask)
}

// slow is At without the flat index: nil if the range is not in one region.
func (x *index) slow(a, n uint64) unsafe.Pointer {
	if x.dir != nil {
		i := x.leafOf(a) - x.first
		if i < uint64(len(x.dir)) && x.dir[i] != nil && n-1 <= x.mask&^a {
			if p := x.dir[i][a>>(x.shift&63)%(1<<leafBits)].p; p != nil {
				return unsafe.Add(p, a&x.mask)
			}
		}
	}
	i, ok := x.find(a)
	if !ok {
		return nil
	}
	s := &x.spans[i]
	off := a - s.addr // < size, says find
	if n > s.size-off {
		return nil
	}
	return unsafe.Add(s.va.p, off)
}

// find gives the span that a lies in.
func (x *index) find(a uint64) (i int, ok bool) {
	// n spans from i on are candidates; halving without an early exit keeps
	// the loop free of branches that cannot be predicted.
	for n := len(x.spans); n > 1; {
		half := n / 2
		if x.spans[i+half].addr <= a {
			i += half
		}
		n -= half
	}
	if len(x.spans) == 0 || a < x.spans[i].addr || a-x.spans[i].addr >= x.spans[i].size {
		return 0, false
	}
	return i, true
}
