package vblk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vhostd/vhostd/virtio"
)

// follow hears of what happens to the device, until the disk is closed.
func (d *Disk) follow() {
	events := d.o.Transport.Events()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-d.broken:
			d.takeBack()
		case <-d.retry:
			if d.down.Load() != nil && !d.gone {
				d.reset()
			}
		case e, ok := <-events:
			if !ok {
				d.lost(ErrLost)
				return
			}
			d.handle(e)
		}
	}
}

func (d *Disk) handle(e virtio.TransportEvent) {
	switch e.Kind {
	case virtio.ConfigChanged:
		d.transport.Lock()
		err := d.refresh(d.ctx)
		d.transport.Unlock()
		if err != nil {
			d.badConfigs.Add(1)
		}
	case virtio.QueueBroken:
		if e.Queue >= 0 && e.Queue < len(d.queues) {
			q := d.queues[e.Queue]
			q.mu.Lock()
			_ = q.lied(fmt.Errorf("the device broke it: %w", orLost(e.Err)))
			q.mu.Unlock()
		}
	case virtio.NeedsReset:
		d.resets.Add(1)
		d.reset()
	case virtio.Lost:
		d.gone = true
		d.losses.Add(1)
		d.lost(orLost(e.Err))
	case virtio.Back:
		d.gone = false
		d.restore(e.Resumes)
	}
}

// retryPause is the time after which is tried again what failed with the device.
const retryPause = 100 * time.Millisecond

// poke has follow look. One look is enough for all that happened before it.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// failed notes why there is no device. It is reset a little later, unless it is
// gone by then.
func (d *Disk) failed(err error) {
	d.down.Store(&err)
	time.AfterFunc(retryPause, func() { poke(d.retry) })
}

func orLost(err error) error {
	if err == nil {
		return ErrLost
	}
	return err
}

// refresh reads the configuration space again and tells of a change. The
// transport is held.
func (d *Disk) refresh(ctx context.Context) error {
	c, err := d.readConfig(ctx)
	if err != nil {
		return err
	}
	old := d.config.Load()
	if c.BlockSize != old.BlockSize || limitsOf(c, d.o, d.features) != limitsOf(*old, d.o, d.features) {
		// Requests in flight, and those that are being split, were made for it.
		return &ConfigError{"blk_size, size_max or seg_max", uint64(c.BlockSize), "changed while the disk is in use"}
	}
	d.config.Store(&c)
	if c != *old && d.o.OnChange != nil {
		d.o.OnChange(c)
	}
	return nil
}

// takeBack takes queues back that are broken. Where that fails the device may
// use what is lent still, and it is tried again.
func (d *Disk) takeBack() {
	for i, q := range d.queues {
		q.mu.Lock()
		broken := q.state == isBroken
		q.mu.Unlock()
		if !broken {
			continue
		}
		d.transport.Lock()
		_, err := d.o.Transport.Disconnect(d.ctx, i)
		d.transport.Unlock()
		if err != nil {
			time.AfterFunc(retryPause, func() { poke(d.broken) })
			continue
		}
		q.bury(isDead, q.Err())
	}
}

// bury ends a queue that no device reaches any more, and all requests on it.
func (q *Queue) bury(s queueState, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, i := range q.reclaim() {
		q.fail(i, err)
	}
	q.die(s, err)
}

// lost stops all queues: there is no device. What the old one did is taken back;
// the rest waits for what the transport says next.
func (d *Disk) lost(why error) {
	d.down.Store(&why)
	for _, q := range d.queues {
		q.mu.Lock()
		// What a direct queue's worker has not seen is kept for it: put leaves
		// room for all that can be in flight.
		told := len(q.failed)
		q.failed = q.failed[:told+q.reap(q.failed[told:cap(q.failed)])]
		if q.state == isRunning {
			q.state, q.line = isLost, nil
			q.dq.Connect(nil)
			q.tell()
		}
		broken := q.state == isBroken
		q.mu.Unlock()
		if broken {
			q.bury(isDead, q.Err())
		}
	}
}

// reset begins anew with a device that asked for it (virtio 1.2, 2.1.2), or that
// did not come up.
func (d *Disk) reset() {
	d.transport.Lock()
	err := d.o.Transport.Reset(d.ctx)
	if err == nil {
		d.lost(errReset) // whatever comes next, this one has let go
		err = d.o.Transport.Accept(d.ctx, d.features)
	}
	d.transport.Unlock()
	if err != nil {
		d.failed(err)
		return
	}
	d.restore(false)
}

var errReset = errors.New("the device is being reset")

// restore goes on with another device: it is given the rings as they are if it
// knows what was in flight, and empty ones otherwise, on which that is lent
// again.
func (d *Disk) restore(resumes bool) {
	if !resumes {
		for _, q := range d.queues {
			if err := q.renew(d.o.Once); err != nil {
				d.failed(err)
				return
			}
		}
	}
	d.transport.Lock()
	defer d.transport.Unlock()
	err := d.refresh(d.ctx)
	if err != nil {
		d.badConfigs.Add(1)
	} else {
		err = d.start(d.ctx)
	}
	if err != nil {
		d.failed(err)
		return
	}
	d.down.Store(nil)
}
