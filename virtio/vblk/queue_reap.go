package vblk

import "github.com/vhostd/vhostd/virtio"

// reap takes back what the device is done with: requests of calls are settled,
// others go to done, of which no more are taken than it holds. mu is held.
func (q *Queue) reap(done []Done) (n int) {
	if q.state != isRunning {
		return 0
	}
	for {
		want := len(q.back)
		if q.direct {
			want = min(want, len(done)-n)
		}
		got, read, fault := q.take(want)
		for k := range got {
			i, err := uint16(q.back[k].Token), fault
			if k < read {
				err = q.outcome(i, q.status[k], q.back[k].Len)
			}
			d := q.finish(i, err)
			if q.direct {
				done[n] = d
				n++
			}
		}
		if got > 0 {
			q.tell()
		}
		if got < want || want == 0 || fault != nil {
			break
		}
	}
	if err := q.dq.Err(); err != nil {
		_ = q.lied(err)
	}
	return n
}

// take takes up to want chains back, and reads how the device ended them, each
// status once. A fault leaves some without one.
func (q *Queue) take(want int) (got, read int, fault error) {
	fault = q.guard(func() error {
		for got = q.dq.Reap(q.back[:want]); read < got; read++ {
			at := q.back[read].Token*cellBytes + statusAt
			q.status[read] = Status(q.cells.VA.Add(at).Bytes(1)[0])
		}
		return nil
	})
	return got, read, fault
}

// outcome says how the request of slot i ended, whose chain the device gave back
// with a status, and said that it wrote so many bytes.
func (q *Queue) outcome(i uint16, status Status, wrote uint32) error {
	s := &q.slots[i]
	if err := status.err(); err != nil {
		return err
	}
	// What the device did not write is what the buffer held before (virtio 1.2,
	// 2.7.8.2). The status is one byte more; not all devices count it.
	if s.Type.fills() && wrote < s.bytes {
		return ErrShort
	}
	return nil
}

// finish ends the request of slot i. mu is held.
func (q *Queue) finish(i uint16, err error) Done {
	s := &q.slots[i]
	d := Done{Token: s.Token, Err: err}
	if err == nil {
		d.Bytes = s.bytes
	}
	q.stats.count(s.Type, d)
	q.free = append(q.free, i)
	if s.call != nil {
		s.call.settle(err)
		s.call = nil
	}
	return d
}

// fail ends the request of slot i without the device. mu is held.
func (q *Queue) fail(i uint16, err error) {
	call := q.slots[i].call
	d := q.finish(i, err)
	if call == nil {
		q.failed = append(q.failed, d)
	}
}

// lied breaks the queue: the device did what it must not. It may still use what
// is lent, until control has taken the queue back. mu is held.
func (q *Queue) lied(err error) error {
	if q.state != isRunning {
		return q.Err()
	}
	q.die(isBroken, &QueueError{q.index, err})
	poke(q.disk.broken)
	return q.Err()
}

// die ends the queue's service. mu is held.
func (q *Queue) die(s queueState, err error) {
	q.state, q.line = s, nil
	q.dq.Connect(nil)
	if q.dead.Load() == nil || s == isClosed {
		q.dead.Store(&err)
	}
	q.tell()
}

// reclaim takes back all that is lent from a device that is gone, and gives the
// slots in the order in which they were lent. mu is held.
func (q *Queue) reclaim() (slots []uint16) {
	for _, b := range q.dq.Reclaim() {
		slots = append(slots, uint16(b.Token))
	}
	return slots
}

// resume goes on with a device that serves the ring.
func (q *Queue) resume(line virtio.Line) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.state, q.line = isRunning, line
	q.dq.Connect(line)
	_ = q.guard(func() error { q.flush(); return nil })
	q.tell()
}
