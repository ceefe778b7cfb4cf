package vblk

import (
	"context"

	"github.com/vhostd/vhostd/memtable"
)

// Request is what a device is asked to do. It is one chain on the ring: who
// wants more than [Queue.Limits] splits it.
type Request struct {
	Type   Type
	Sector uint64
	// Bufs are the data, Len bytes of each: written by the device for TypeIn
	// and TypeGetID, read by it otherwise. TypeDiscard and TypeWriteZeroes read
	// segments. They are lent until the request is done; the slice is not.
	Bufs  []memtable.Buf
	Token uint64 // the caller's
}

// Done is a request that has come back.
type Done struct {
	Token uint64
	Bytes uint32 // of data; 0 if there is an error
	Err   error  // ErrIO, ErrUnsupported, ErrStatus, ErrShort, ErrLost, ErrClosed, a *QueueError; nil
}

// Submit lends requests to the device and says how many: as many as there is
// room for, from the first. It does not wait and does not allocate. While memory
// is being moved (Disk.Pause) there is no room.
//
// The error is why request n was refused, or why the queue takes none: ErrLost,
// after which a later one may succeed (Wait waits for it), or what Err says.
func (q *Queue) Submit(rs []Request) (n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	err = q.guard(func() (err error) {
		for n < len(rs) && err == nil {
			if err = q.put(&rs[n], nil); err == nil {
				n++
			}
		}
		if q.state == isRunning {
			q.flush()
		}
		return err
	})
	switch {
	case err != errLater:
		return n, err
	case q.state == isLost:
		return n, ErrLost
	}
	return n, nil
}

// Complete takes back up to len(done) requests that are done, in the order in
// which the device did them. It does not wait and does not allocate.
func (q *Queue) Complete(done []Done) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.seen && q.state == isRunning {
		_ = q.guard(func() error { q.dq.Disarm(); return nil })
		q.seen = false
	}
	if len(q.failed) > 0 {
		n = copy(done, q.failed)
		q.failed = q.failed[:copy(q.failed, q.failed[n:])]
	}
	return n + q.reap(done[n:])
}

// Wait parks until requests may be done, or there is a device again. It may
// return for nothing. The error is the context's, or what Err says.
func (q *Queue) Wait(ctx context.Context) error {
	q.mu.Lock()
	switch {
	case len(q.failed) > 0:
		q.mu.Unlock()
		return nil
	case q.line == nil:
		err, changed := q.Err(), q.changed()
		coming := q.state == isBroken // it is being taken back, and then all that is lent is done
		q.mu.Unlock()
		if err != nil && !coming {
			return err
		}
		return await(ctx, changed)
	}
	line := q.line
	q.seen = true
	work := q.arm()
	q.mu.Unlock()
	if work {
		return nil
	}
	if err := line.Wait(ctx); err != nil {
		return q.awaitAfter(ctx, line)
	}
	return nil
}
