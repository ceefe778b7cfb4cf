package vblk

import (
	"context"

	"github.com/vhostd/vhostd/memtable"
)

// call is one call of a method of Disk: the requests it became, on one queue.
// All of it belongs to the queue's lock, but for done.
type call struct {
	left   int           // requests that are lent
	sealed bool          // there will be no more
	gone   bool          // nobody waits any more
	err    error         // of the first request that failed
	done   chan struct{} // closed when nothing is lent any more and nothing will be
	bounce []memtable.Buf
	disk   *Disk
}

// settle counts a request that has come back.
func (c *call) settle(err error) {
	if c.err == nil {
		c.err = err
	}
	c.left--
	c.end()
}

// end ends the call if it is complete. Bounce buffers that nobody waits for go
// back here, since only now the device lets go of them.
func (c *call) end() {
	if c.left > 0 || !c.sealed {
		return
	}
	if c.gone {
		c.disk.putBounce(c.bounce)
	}
	close(c.done)
}

// do lends the requests that next gives and waits until all are done; then is
// called if they went well. bounce are the disk's buffers among their data: they
// go back when the device is done with them, and then.
func (d *Disk) do(ctx context.Context, next func(*Request) bool, bounce []memtable.Buf, then func()) error {
	c := &call{done: make(chan struct{}), bounce: bounce, disk: d}
	q, err := d.pick()
	if err == nil {
		err = q.lendAll(ctx, next, c)
	}
	if err != nil {
		d.putBounce(bounce)
		return err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		q.mu.Lock()
		lent := c.left > 0
		c.gone = lent
		q.mu.Unlock()
		if lent {
			return &LentError{c.done, context.Cause(ctx)}
		}
	}
	if c.err == nil && then != nil {
		c.err = memtable.Guard(func() error { then(); return nil })
	}
	d.putBounce(bounce)
	return c.err
}

// lendAll lends what next gives, waiting for room. After an error nothing is
// lent: one that comes later is the call's.
func (q *Queue) lendAll(ctx context.Context, next func(*Request) bool, c *call) error {
	var r Request
	more, err := next(&r), error(nil)
	q.mu.Lock()
	defer q.mu.Unlock()
	for more && err == nil && c.err == nil {
		switch err = q.guard(func() error { return q.put(&r, c) }); err {
		case nil:
			more = next(&r)
		case errLater:
			q.showAll()
			changed := q.changed()
			q.mu.Unlock()
			err = await(ctx, changed)
			q.mu.Lock()
		}
	}
	q.showAll()
	if err != nil && c.left == 0 && c.err == nil {
		return err
	}
	if c.err == nil {
		c.err = err
	}
	c.sealed = true
	c.end()
	return nil
}

// showAll shows the device what was put, if there is one.
func (q *Queue) showAll() {
	if q.state == isRunning {
		_ = q.guard(func() error { q.flush(); return nil })
	}
}

// takeBounce gives bounce buffers for n bytes, or for less: it waits for one,
// and takes what others are free.
func (d *Disk) takeBounce(ctx context.Context, n int) (bufs []memtable.Buf, err error) {
	if d.own() == 0 {
		return nil, ErrNoQueue
	}
	for n > 0 {
		var b memtable.Buf
		select {
		case b = <-d.bounce:
		default:
			if len(bufs) > 0 {
				return bufs, nil
			}
			select {
			case b = <-d.bounce:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		b.Len = uint32(min(n, int(d.o.BounceSize)))
		n -= int(b.Len)
		bufs = append(bufs, b)
	}
	return bufs, nil
}

func (d *Disk) putBounce(bufs []memtable.Buf) {
	for _, b := range bufs {
		d.bounce <- b // it has room for all there are
	}
}
