package vblk

import (
	"errors"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// errLater is what put answers when the request can be put later: there is no
// room, no device, or a pause.
var errLater = errors.New("not now")

// put lends a request to the device, which sees it when it is published. mu is
// held. c is nil for a direct queue.
func (q *Queue) put(r *Request, c *call) error {
	switch {
	case q.state == isLost || q.paused:
		return errLater
	case q.state != isRunning:
		return q.Err()
	}
	n, err := q.check(r)
	if err != nil {
		return err
	}
	if len(q.free) == 0 || len(q.failed) > 0 { // Complete comes first
		return errLater
	}
	i := q.free[len(q.free)-1]
	s := &q.slots[i]
	s.bufs = append(s.bufs[:0], r.Bufs...)
	s.Request, s.bytes, s.sent, s.call = *r, n, 0, c
	s.Bufs = s.bufs
	if err := q.lend(i); err != nil {
		return err
	}
	q.free = q.free[:len(q.free)-1]
	if c != nil {
		c.left++
	}
	q.stats.Submitted++
	return nil
}

// lend makes the chain of slot i: header, data, status (virtio 1.2, 5.2.6).
func (q *Queue) lend(i uint16) error {
	s, at := &q.slots[i], uint64(i)*cellBytes
	cell := q.cells.VA.Add(at)
	Header{s.Type, s.Sector}.Encode((*[HeaderLen]byte)(cell.Bytes(HeaderLen)))
	cell.Add(statusAt).Bytes(1)[0] = 0xff // no status: who leaves it did not answer
	addr := q.cells.Addr + memtable.IOVA(at)

	chain := append(q.chain[:0], memtable.Buf{Addr: addr, Len: HeaderLen})
	chain = append(chain, s.Bufs...)
	out := 1
	if s.Type.fills() {
		for k := range chain[1:] {
			chain[1+k].Cap = chain[1+k].Len
		}
	} else {
		out = len(chain)
	}
	chain = append(chain, memtable.Buf{Addr: addr + statusAt, Cap: 1})
	err := q.dq.Add(chain[:out], chain[out:], uint64(i))
	switch {
	case err == nil:
		s.sent++
		return nil
	case errors.Is(err, virtio.ErrFull):
		return errLater
	case q.dq.Err() != nil:
		return q.lied(err)
	}
	return err
}

// check holds a request against what the device promised, and gives its bytes.
func (q *Queue) check(r *Request) (uint32, error) {
	d, n := q.disk, uint64(0)
	for i := range r.Bufs {
		b := &r.Bufs[i]
		if b.Len == 0 || b.Len > q.limits.Size {
			return 0, ErrLimit
		}
		n += uint64(b.Len)
	}
	switch {
	case len(r.Bufs) > q.limits.Segments || n > uint64(q.limits.Bytes):
		return 0, ErrLimit
	case r.Type.writes() && d.ReadOnly():
		return 0, ErrReadOnly
	}
	if err := d.checkForm(r.Type, r.Sector, n); err != nil {
		return 0, err
	}
	for i := range r.Bufs {
		if !q.reaches(&r.Bufs[i]) {
			return 0, ErrNotShared
		}
	}
	return uint32(n), nil
}

// checkForm says whether n bytes of data at a sector can be a request.
func (d *Disk) checkForm(t Type, sector, n uint64) error {
	switch t {
	case TypeIn, TypeOut:
		c := d.config.Load()
		block := uint64(c.BlockSize)
		switch count := n / SectorSize; {
		case n == 0 || n%block != 0 || sector%(block/SectorSize) != 0:
			return ErrAlign
		case count > c.Capacity || sector > c.Capacity-count:
			return ErrRange
		}
		return nil
	case TypeFlush:
		return form(n == 0, d.features.Has(FeatureFlush))
	case TypeGetID:
		return form(n == IDLen, true)
	case TypeDiscard:
		return form(n != 0 && n%SegmentLen == 0, d.features.Has(FeatureDiscard))
	case TypeWriteZeroes:
		return form(n != 0 && n%SegmentLen == 0, d.features.Has(FeatureWriteZeroes))
	}
	return ErrUnsupported
}

func form(fits, offered bool) error {
	switch {
	case !offered:
		return ErrUnsupported
	case !fits:
		return ErrForm
	}
	return nil
}

// reaches says whether the device reaches a buffer. A transport that lost its
// device shares nothing at all, not even the queue: then nobody knows, and the
// request is lent to a ring that the next device is given.
func (q *Queue) reaches(b *memtable.Buf) bool {
	shares := q.disk.shares
	return shares == nil || shares(b.Addr, uint64(b.Len)) || !shares(q.cells.Addr, 1)
}

// flush shows the device what was put. mu is held.
func (q *Queue) flush() {
	q.dq.Publish()
	if q.dq.Kick() {
		q.stats.Kicks++
	}
}
