package virtio

import (
	"errors"
	"fmt"
)

// ErrRecord is what breaks a ring whose record of what is in flight cannot be
// true. To start without it would lose requests or do them twice.
var ErrRecord = errors.New("the in-flight record does not fit the ring: reset the device")

const (
	recordVersion   = 1
	recordHeaderLen = 16
	recordEntryLen  = 16
	recordAlign     = 64
)

// RecordSize is how many bytes the record of one ring of n descriptors takes;
// those of the next ring follow it. It is a multiple of 64.
func RecordSize(n uint16) uint64 {
	return (recordHeaderLen + recordEntryLen*uint64(n) + recordAlign - 1) &^ (recordAlign - 1)
}

// NewRecord finds a record of a ring of up to n descriptors in mem, which must
// have RecordSize(n) bytes and begin at a multiple of 8. Memory of zeros is a
// record that was never used. The record neither owns nor keeps mem. It may
// fault.
func NewRecord(mem []byte, n uint16) (*Record, error) {
	switch {
	case n == 0 || n > MaxSize:
		return nil, fmt.Errorf("in-flight record for %d descriptors: a ring has 1 to %d", n, MaxSize)
	case uint64(len(mem)) < RecordSize(n):
		return nil, fmt.Errorf("in-flight record for %d descriptors has %d of %d bytes", n, len(mem), RecordSize(n))
	case !aligned(mem, 8):
		return nil, errors.New("in-flight record: it must begin at a multiple of 8")
	}
	r := recordOf(mem, n)
	h := r.header()
	if h.version != 0 && (h.version != recordVersion || h.size != n) {
		return nil, fmt.Errorf("in-flight record of version %d for %d descriptors: want version %d for %d", h.version, h.size, recordVersion, n)
	}
	return r, nil
}

// Size is how many descriptors the ring may have.
func (r *Record) Size() uint16 { return r.size }

// took marks heads as in flight, in the order in which they were taken. A head
// counts only with its flag, so the counter is there before.
func (q *Queue) took(b *Burst) {
	r := q.cur.Inflight
	for i := range b.N {
		head := b.Elem[i].Head
		r.setCounter(head, q.counter)
		r.setEntry(head, true, 0)
		q.counter++
	}
}

// batch links the heads that are about to be published into a list that begins
// at last_batch_head. While used_idx of the record is what the driver sees, the
// list means nothing, and they all count as in flight.
func (q *Queue) batch(b *Burst) {
	r := q.cur.Inflight
	h := r.header()
	for i := range b.N {
		head := b.Elem[i].Head
		r.setEntry(head, true, h.last)
		h.last = head
		q.unpublished = append(q.unpublished, head)
	}
	r.setHeader(h)
}

// settled takes what was published off the record. The driver has seen the used
// index by now: between the two, the list of the batch says what to take off.
func (q *Queue) settled() {
	r := q.cur.Inflight
	for _, head := range q.unpublished {
		_, next := r.entry(head)
		r.setEntry(head, false, next)
	}
	q.unpublished = q.unpublished[:0]
	h := r.header()
	h.used = q.published
	r.setHeader(h)
}
