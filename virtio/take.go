package virtio

import "github.com/vhostd/vhostd/memtable"

// badRunMax is how many bad chains in a row break the ring: a driver that makes
// nothing else is not worth a worker.
const badRunMax = 1 << 16

// workMax bounds the descriptors and pieces that one burst walks through, but
// for the last of its chains: a chain can have 32768, and a worker that walks a
// full burst of those is late for everybody. It is 64 for each of 64 chains.
const workMax = 4096

// Take fills b with up to limit chains that the driver made available, all their
// descriptors validated and translated, and returns how many there are. A bad
// chain is an element without segments, counted when it is put. It takes no more than [BurstMax]. After
// a bad head or index the ring is broken, see [Queue.Err].
//
// One burst at a time may be taken and not put.
func (q *Queue) Take(b *Burst, d Dir, limit int) int {
	b.reset()
	recorded := q.cur.Inflight != nil
	if recorded {
		if n, ok := q.retake(b, d, limit); ok {
			return n
		}
	}
	_, idx := q.ring.availWord()
	n := int(idx - q.next)
	if n == 0 || q.broken.Load() != nil {
		return 0
	}
	if n > int(q.ring.mask)+1 {
		q.fail("read available index", idx, ErrIndex)
		return 0
	}
	n = min(n, limit, BurstMax)
	mem, want, read := q.cur.Mem, uint16(0), uint16(1)
	if d == Writable {
		want, read = flagWrite, 0
	}
	work := 0
	for i := range n {
		head := q.ring.head(q.next + uint16(i))
		if head > q.ring.mask {
			if i == 0 {
				q.fail("read available ring", head, ErrHead)
			}
			n = i // what came before the bad head is served first
			break
		}
		e := &b.Elem[i]
		desc := q.ring.descriptor(head)
		// The usual chain is one descriptor, wholly in one region.
		if desc.flags == want && desc.len != 0 && d != Both {
			if va, ok := mem.At(memtable.GPA(desc.addr), uint64(desc.len)); ok {
				*e = Elem{Seg: Seg{va, desc.len}, Total: desc.len, Head: head, Segs: 1, read: read}
				continue
			}
		}
		*e = Elem{Head: head}
		if work += q.walk(b, e, desc, d); work > workMax {
			n = i + 1
			break
		}
	}
	b.N = n
	q.next += uint16(n)
	q.taken += uint16(n)
	if recorded {
		q.took(b)
	}
	return n
}

// Untake gives the elements from i on back as if they had never been taken: b
// keeps its first i. It touches no guest memory.
func (q *Queue) Untake(b *Burst, i int) {
	if i >= b.N {
		return
	}
	q.giveBack(uint16(b.N - i))
	b.drop(i)
}

// walk is the road of every chain that is not one plain descriptor. A bad chain
// leaves e without segments and with a reason. work is what it cost.
func (q *Queue) walk(b *Burst, e *Elem, first descriptor, d Dir) (work int) {
	w := walk{b: b, e: e, mem: q.cur.Mem, dir: d, start: len(b.over)}
	err := w.chain(&q.ring, first, q.cur.Features.Has(FeatureIndirect))
	if err == nil && e.Segs == 0 {
		err = errEmpty
	}
	if err == nil {
		return w.work
	}
	b.over = b.over[:w.start]
	*e = Elem{Head: e.Head, bad: reasonOf(err)}
	return w.work
}
