package memfd

import (
	"math"
	"math/bits"
)

// Vacant chunks lie in bins by size: sixteen bins for each power of two, so that
// what is in a bin differs by 6 % at most, and all sizes below sixteen quanta
// have one of their own. The first in the next bin always is large enough.
const (
	binBits = 4
	binSubs = 1 << binBits
	binMax  = (64 - 6 - binBits + 1) * binSubs // 6: sizes are in quanta
)

// bins has the first chunk of each list, and which lists there are.
type bins struct {
	head [binMax]uint32
	full [(binMax + 63) / 64]uint64
}

// binOf gives the bin for so many bytes.
func binOf(size uint64) int {
	n := size / quantum
	if n < binSubs {
		return int(n)
	}
	shift := bits.Len64(n) - binBits - 1
	return (shift+1)<<binBits + int(n>>shift)&(binSubs-1)
}

// next gives the first bin from b on that is not empty; -1: there is none.
func (b *bins) next(from int) int {
	if from >= binMax {
		return -1
	}
	word := from / 64
	set := b.full[word] &^ (1<<(from%64) - 1)
	for set == 0 {
		if word++; word == len(b.full) {
			return -1
		}
		set = b.full[word]
	}
	return word*64 + bits.TrailingZeros64(set)
}

// insert puts a vacant chunk in front of its list: what was used last is in the
// caches of the processor.
func (s *chunks) insert(i uint32) {
	n := binOf(s.all[i].size)
	first := s.bins.head[n]
	s.all[i].ahead, s.all[i].after = 0, first
	s.all[first].ahead = i // of nobody, it does not matter
	s.bins.head[n] = i
	s.bins.full[n/64] |= 1 << (n % 64)
}

// remove takes a vacant chunk out of its list.
func (s *chunks) remove(i uint32) {
	c := &s.all[i]
	s.all[c.after].ahead = c.ahead
	if c.ahead != 0 {
		s.all[c.ahead].after = c.after
		return
	}
	n := binOf(c.size)
	if s.bins.head[n] = c.after; c.after == 0 {
		s.bins.full[n/64] &^= 1 << (n % 64)
	}
}

// request says what memory has to be like.
type request struct {
	size  uint64 // bytes, a multiple of quantum
	align uint64 // a power of two, quantum or more
	bound uint64 // a power of two that is size or more, and no multiple of it lies inside; 0: none
	page  uint64 // page size in bytes; 0: any
	hint  uint64 // page size in bytes that is tried first; 0: none
	node  int    // AnyNode: any
	known bool   // devices can find it
	whole bool   // in one piece for devices, if they can find it: of external memory, where that is not so anyway
}

// find gives a vacant chunk that serves r, and where in it: nearly the smallest
// one. A few of each bin are looked at, and all of them before giving up.
func (s *chunks) find(r *request) (i uint32, at uint64) {
	const few = 8
	for _, most := range [...]int{few, math.MaxInt} {
		for b := s.bins.next(binOf(r.size)); b >= 0; b = s.bins.next(b + 1) {
			i := s.bins.head[b]
			for n := 0; i != 0 && n < most; n++ {
				if at, ok := s.fit(&s.all[i], r); ok {
					return i, at
				}
				i = s.all[i].after
			}
		}
	}
	return 0, 0
}

// fit gives the lowest place in c that serves r.
func (s *chunks) fit(c *chunk, r *request) (at uint64, ok bool) {
	k := &s.kinds[c.kind]
	if !k.serves(r) {
		return 0, false
	}
	if k.lot == nil || !r.whole {
		return r.fit(c.addr, c.end())
	}
	for from, to := range k.lot.pieces(c.addr, c.end()) {
		if at, ok = r.fit(from, to); ok {
			break
		}
	}
	return at, ok
}

// fit gives the lowest place from from to to that serves r.
func (r *request) fit(from, to uint64) (at uint64, ok bool) {
	at = up(from, r.align)
	if r.bound != 0 && (at^(at+r.size-1))&^(r.bound-1) != 0 {
		at = up(at, max(r.bound, r.align))
	}
	return at, at <= to && r.size <= to-at
}

// greatest gives the most bytes that one chunk has for r, whose size does not
// matter.
func (s *chunks) greatest(r *request) (most uint64) {
	s.clearShelf()
	for b := s.bins.next(0); b >= 0; b = s.bins.next(b + 1) {
		for i := s.bins.head[b]; i != 0; i = s.all[i].after {
			most = max(most, s.room(&s.all[i], r))
		}
	}
	return most
}

// room gives the most bytes that c has for r.
func (s *chunks) room(c *chunk, r *request) uint64 {
	k := &s.kinds[c.kind]
	if !k.serves(r) {
		return 0
	}
	if k.lot == nil || !r.whole {
		return r.room(c.addr, c.end())
	}
	most := uint64(0)
	for from, to := range k.lot.pieces(c.addr, c.end()) {
		most = max(most, r.room(from, to))
	}
	return most
}

// room gives the most bytes that there are for r from from to end.
func (r *request) room(from, end uint64) uint64 {
	at := up(from, r.align)
	if at >= end {
		return 0
	}
	if r.bound == 0 {
		return end - at
	}
	n := min(end-at, r.bound-at&(r.bound-1))
	if at = up(at+1, max(r.bound, r.align)); at < end {
		n = max(n, min(end-at, r.bound))
	}
	return n
}

// up rounds n up to a multiple of a power of two.
func up(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }
