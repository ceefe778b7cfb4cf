package virtio

import "github.com/vhostd/vhostd/memtable"

// logBurst marks what the device wrote into the chains of b, and their used
// elements from free-running index first on.
func (q *Queue) logBurst(b *Burst, first uint16) {
	for i := range b.N {
		left := b.Elem[i].Wrote
		for k := b.Readable(i); left > 0 && k < int(b.Elem[i].Segs); k++ {
			s := b.Seg(i, k)
			n := min(left, s.Len)
			q.logSeg(s.VA, uint64(n))
			left -= n
		}
	}
	if q.cur.LogUsed {
		for i := range b.N {
			q.logUsed(4+8*uint64((first+uint16(i))&q.ring.mask), 8)
		}
	}
}

// logSeg marks n bytes at va. A segment lies in one region.
func (q *Queue) logSeg(va memtable.VA, n uint64) {
	gpa, _, ok := q.cur.Mem.Reverse(va)
	if !ok || !q.cur.Log.Mark(gpa, n) {
		q.unlogged(gpa, n)
	}
}

// logUsed marks n bytes at an offset into the used ring, at the address that
// SET_VRING_ADDR gave for the log.
func (q *Queue) logUsed(offset, n uint64) {
	if gpa := q.cur.UsedLog + memtable.GPA(offset); q.cur.Log != nil && !q.cur.Log.Mark(gpa, n) {
		q.unlogged(gpa, n)
	}
}

// unlogged counts a write that was not marked, and tells of the first.
func (q *Queue) unlogged(gpa memtable.GPA, n uint64) {
	if q.stats.unlogged() && q.cur.Unlogged != nil {
		q.cur.Unlogged(gpa, n)
	}
}
