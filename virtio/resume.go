package virtio

import (
	"cmp"
	"fmt"
	"slices"
)

// Resume is [Queue.SetPosition] by a record: what it has in flight is taken once
// more, in the order in which it was taken before, and then the queue goes on
// behind it, whatever position a front-end that does not know may have told. A
// record that was never used has nothing to say: the queue goes on at p.
//
// An error wraps [ErrRecord], and the queue is as it was. ring must have passed
// [Ring.Check] and be no larger than the record. It may fault.
func (q *Queue) Resume(ring Ring, r *Record, p Position) error {
	words := wordsOf(ring)
	_, used := words.usedWord()
	h := r.header()
	if h.version == 0 {
		for i := range r.size {
			r.setEntry(i, false, 0) // zeros from who is honest
		}
		r.setHeader(recordHeader{recordVersion, r.size, 0, used})
		q.SetPosition(p, used)
		return nil
	}
	if err := r.finish(h, used); err != nil {
		return err
	}
	heads, counter := r.inFlight()
	if n := len(heads); n > 0 {
		if last := slices.Max(heads); last > words.mask {
			return fmt.Errorf("%w (descriptor %d of %d in flight)", ErrRecord, last, ring.Size)
		}
		// What was taken had been made available, and is before what was not taken.
		if _, avail := words.availWord(); n > int(avail-used) {
			return fmt.Errorf("%w (%d chains in flight, %d are not used)", ErrRecord, n, avail-used)
		}
	}
	q.SetPosition(Position(used+uint16(len(heads))), used)
	q.again, q.counter = heads, counter
	q.show()
	return nil
}

// finish takes off the record what was published by who died before he could. It
// can be done any number of times, should we die too.
func (r *Record) finish(h recordHeader, used uint16) error {
	n := used - h.used
	if h.version != recordVersion || h.size != r.size || n > r.size {
		return fmt.Errorf("%w (version %d, %d descriptors, used index %d; the ring's is %d)", ErrRecord, h.version, h.size, h.used, used)
	}
	for head := h.last; n > 0; n-- {
		if head >= r.size {
			return fmt.Errorf("%w (descriptor %d of %d in its last batch)", ErrRecord, head, r.size)
		}
		_, next := r.entry(head)
		r.setEntry(head, false, next)
		head = next
	}
	h.used = used
	r.setHeader(h)
	return nil
}

// inFlight gives what is in flight, oldest first, and the next counter.
func (r *Record) inFlight() (heads []uint16, counter uint64) {
	type taken struct {
		head    uint16
		counter uint64
	}
	var all []taken
	for i := range r.size {
		if inflight, _ := r.entry(i); inflight {
			all = append(all, taken{i, r.counter(i)}) // read once: the peer may write
		}
	}
	slices.SortFunc(all, func(a, b taken) int { return cmp.Compare(a.counter, b.counter) })
	for _, t := range all {
		heads, counter = append(heads, t.head), t.counter+1
	}
	return heads, counter
}

// retake is Take for what a record had in flight. It is on the record already,
// under the counters of its first time. ok: there was some left.
func (q *Queue) retake(b *Burst, d Dir, limit int) (n int, ok bool) {
	left := q.again[q.redone:]
	if q.redoing = len(left) > 0; !q.redoing || q.broken.Load() != nil {
		return 0, q.redoing
	}
	n = min(len(left), limit, BurstMax)
	work := 0
	for i, head := range left[:n] {
		b.Elem[i] = Elem{Head: head}
		if work += q.walk(b, &b.Elem[i], q.ring.descriptor(head), d); work > workMax {
			n = i + 1
			break
		}
	}
	b.N = n
	q.redone += n
	q.taken += uint16(n)
	return n, true
}

// giveBack makes the n chains taken last as if they had not been taken. They
// stay on the record: it says in flight of all from the used index up to some
// chain, which is as true of what is taken again, and what is given back in vain
// costs no store. It touches no memory of the peer.
func (q *Queue) giveBack(n uint16) {
	q.taken -= n
	if q.redoing {
		q.redone -= int(n)
	} else {
		q.next -= n
	}
}
