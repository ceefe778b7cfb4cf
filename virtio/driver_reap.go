package virtio

import (
	"cmp"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// Reap takes back what the device is done with, in the order of the used ring,
// and says how much it was. A buffer of AddBurst comes back as it was lent, but
// for Len: the bytes that the device wrote. A chain of Add comes back as its
// Token, with Len as before and Cap the bytes that were writable; it has no VA.
//
// When the device has lied, see Err; what came before the lie is there.
// Reap does not allocate.
func (q *DriverQueue) Reap(back []memtable.Buf) (n int) {
	ready := q.ready()
	if ready == 0 {
		return 0
	}
	seen := q.reaped + uint64(ready)
	mem := q.Memory.ByIOVA(q.Reader)
	for limit := min(ready, len(back)); n < limit; {
		// What is in shared memory is copied first: if that faults, nothing
		// has happened.
		k := min(limit-n, BurstMax)
		for i := range k {
			q.elem[i] = q.ring.usedElem(uint16(q.reaped) + uint16(i))
		}
		good := k
		if q.inOrder {
			good = q.unroll(k, seen)
		}
		got := q.settle(mem, back[n:n+good])
		q.reaped += uint64(got)
		if n += got; got < k {
			break
		}
	}
	return n
}

// ready is how many used elements wait. An index that cannot be breaks the
// queue.
func (q *DriverQueue) ready() int {
	if q.broken.Load() != nil {
		return 0
	}
	_, idx := q.ring.usedWord()
	n := idx - uint16(q.reaped)
	if uint64(n) > q.published-q.reaped {
		q.fail(q.reaped, "idx", uint32(idx), ErrUsedIndex)
		return 0
	}
	return int(n)
}

// settle holds elements against what is lent and fills back with it. It stops
// where one is wrong.
func (q *DriverQueue) settle(mem *memtable.Table[memtable.IOVA], back []memtable.Buf) int {
	loans, free, push, published := q.loans, q.free, q.push, q.published
	if len(free) == 0 {
		return 0 // never; the compiler sees by it that masked indexes are inside
	}
	elem := q.elem[:len(back)]
	for i := range back {
		e := elem[i]
		if uint64(e.id) >= uint64(len(loans)) {
			q.fail(q.reaped+uint64(i), "id", e.id, ErrUsedID)
			back = back[:i]
			break
		}
		l := &loans[e.id]
		if l.kind < isSource || l.pos >= published || e.len > l.room() {
			q.push = push
			ok := q.finish(i, e, &back[i])
			if push = q.push; !ok {
				back = back[:i]
				break
			}
			continue
		}
		va, ok := mem.At(l.addr, uint64(l.cap))
		if !ok {
			q.fail(q.reaped+uint64(i), "id", e.id, ErrUnmapped)
			back = back[:i]
			break
		}
		// Field by field: a literal is made on the stack and copied from there,
		// which waits for the stores before (measured: 5 ns).
		b := &back[i]
		b.VA, b.Addr, b.Len, b.Cap, b.Token = va, l.addr, e.len, l.cap, l.token
		l.kind = isFree
		free[int(push)&(len(free)-1)] = uint16(e.id)
		push++
	}
	q.push = push
	return len(back)
}

// finish is settle for what is no buffer that went well: a chain, or a lie.
func (q *DriverQueue) finish(i int, e usedElem, back *memtable.Buf) bool {
	l, field, value := &q.loans[e.id], "id", e.id
	err := error(nil)
	switch {
	case l.kind == isInner:
		err = ErrNotHead
	case l.kind == isFree || l.pos >= q.published:
		err = ErrNotLent
	case l.kind != isChain || e.len > l.cap:
		field, value, err = "len", e.len, ErrUsedLen
	}
	if err != nil {
		q.fail(q.reaped+uint64(i), field, value, err)
		return false
	}
	*back = memtable.Buf{Len: e.len, Cap: l.cap, Token: l.token}
	q.release(uint16(e.id))
	return true
}

// release frees the descriptors of a chain, in the order in which they were
// taken.
func (q *DriverQueue) release(head uint16) {
	for d := head; d != none; d = q.loans[d].next {
		q.loans[d].kind = isFree
		q.free[q.push&q.mask] = d
		q.push++
	}
}

// unroll makes elements of a ring that is used in order into one for each chain,
// up to position seen. One element may stand for a batch: it names the last
// chain, lies where the first one's would be, and says that those before the
// last were used completely (virtio 1.2, 2.7.9). It stops where one is wrong.
func (q *DriverQueue) unroll(k int, seen uint64) int {
	for i := range k {
		pos, e := q.reaped+uint64(i), &q.elem[i]
		if pos >= q.batch && !q.begin(pos, seen, *e) {
			return i
		}
		head := q.order[pos&uint64(q.mask)]
		*e = usedElem{uint32(head), q.batchLen}
		if pos+1 < q.batch {
			e.len = q.loans[head].room()
		}
	}
	return k
}

// begin reads the element of the batch that starts at pos.
func (q *DriverQueue) begin(pos, seen uint64, e usedElem) bool {
	if uint64(e.id) >= uint64(len(q.loans)) {
		q.fail(pos, "id", e.id, ErrUsedID)
		return false
	}
	l, err := &q.loans[e.id], error(nil)
	field, value := "id", e.id
	switch {
	case l.kind == isFree || l.pos < pos: // the burst it came back in is not settled yet
		err = ErrNotLent
	case l.kind == isInner:
		err = ErrNotHead
	case l.pos >= q.published:
		err = ErrNotLent
	case l.pos >= seen:
		err = ErrOrder
	case e.len > l.room():
		field, value, err = "len", e.len, ErrUsedLen
	}
	if err != nil {
		q.fail(pos, field, value, err)
		return false
	}
	q.batch, q.batchLen = l.pos+1, e.len
	return true
}

// Reclaim takes back all that is lent, published or not, in the order in which
// it was added: when the device is gone, was reset, or gave the ring back. Len
// is 0, otherwise it is as Reap gives it; a buffer whose memory is not mapped
// any more has no VA. It does not touch the ring's memory. The queue is stopped
// then until Reset.
func (q *DriverQueue) Reclaim() []memtable.Buf {
	var heads []uint16
	for i := range q.loans {
		if l := &q.loans[i]; l.kind >= isChain && l.pos < q.added {
			heads = append(heads, uint16(i))
		}
	}
	slices.SortFunc(heads, func(a, b uint16) int { return cmp.Compare(q.loans[a].pos, q.loans[b].pos) })
	mem := q.Memory.ByIOVA(q.Reader)
	back := make([]memtable.Buf, len(heads))
	for i, h := range heads {
		l := &q.loans[h]
		back[i] = memtable.Buf{Cap: l.cap, Token: l.token}
		if l.kind >= isSource {
			back[i].Addr = l.addr
			back[i].VA, _ = mem.At(l.addr, uint64(l.cap))
		}
		l.kind = isFree
	}
	q.reaped = q.added
	q.fail(q.added, "idx", 0, ErrReclaimed)
	return back
}
