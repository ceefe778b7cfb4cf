package vnet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vhostd/vhostd/virtio"
)

// poke has the driver's goroutine look for rings that failed. It does not block.
func (d *Driver) poke() {
	select {
	case d.failed <- struct{}{}:
	default: // it will look anyhow
	}
}

// restartPause is the least time between two restarts of a ring, or of the
// device: who lies all the time does not keep us busy with it.
const restartPause = 100 * time.Millisecond

// live keeps the device up, until the driver closes or the transport does.
func (d *Driver) live() {
	defer close(d.done)
	for {
		select {
		case e, ok := <-d.t.Events():
			if !ok {
				d.lose()
				return
			}
			d.happened(e)
		case <-d.failed:
			for r := range d.all {
				if err := r.failure(); err != nil {
					d.heal(r, err)
				}
			}
		case <-d.retry:
			d.turn(func() error {
				if d.now().present {
					return nil
				}
				return d.reset(d.ctx)
			})
		case <-d.ctx.Done():
			return
		}
	}
}

// happened deals with an event.
func (d *Driver) happened(e virtio.TransportEvent) {
	switch e.Kind {
	case virtio.ConfigChanged:
		d.configChanged()
	case virtio.QueueBroken:
		if i := e.Queue; i >= 0 && i < 2*d.cfg.Pairs {
			r, why := d.ring(i), e.Err
			if why == nil {
				why = errUntold
			}
			r.set(func() { r.fail(fmt.Errorf("the device serves ring %d no more: %w", i, why)) })
		}
	case virtio.NeedsReset:
		d.tellChange(Change{Kind: DeviceBroken, Err: e.Err})
		d.turn(func() error { return d.reset(d.ctx) })
	case virtio.Lost:
		d.lose()
		d.edit(func(s *state) { s.lost++ })
		d.tellChange(Change{Kind: DeviceLost, Err: e.Err})
	case virtio.Back:
		d.edit(func(s *state) { s.gone = false })
		d.turn(func() error { return d.serve(d.ctx, e.Resumes) })
		if d.now().present {
			d.configChanged()
			d.tellChange(Change{Kind: DeviceBack})
		}
	}
}

var errUntold = errors.New("it does not say why")

// turn does what brings the device, or a part of it, up again. If it fails and
// the device is there, all of it is reset a little later; if it is not, there
// will be an event.
func (d *Driver) turn(bringUp func() error) {
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if d.now().closing {
		return
	}
	if err := bringUp(); err != nil && d.ctx.Err() == nil {
		d.halt()
		d.tellChange(Change{Kind: DeviceBroken, Err: err})
		d.later(restartPause)
	}
}

// later has the device reset after a while.
func (d *Driver) later(pause time.Duration) {
	time.AfterFunc(pause, func() {
		select {
		case d.retry <- struct{}{}:
		default:
		}
	})
}

// halt stops all workers.
func (d *Driver) halt() {
	for r := range d.all {
		r.set(func() { r.running, r.line = false, nil })
	}
	d.edit(func(s *state) { s.present = false })
}

// lose is for a device that is gone. What is lent to it stays lent, until it is
// known whether the next one goes on with it.
func (d *Driver) lose() {
	d.halt()
	d.edit(func(s *state) { s.gone = true })
}

// reset has the device begin anew, and all rings with it.
func (d *Driver) reset(ctx context.Context) error {
	if s := d.now(); s.gone {
		return nil // the next device begins anew by itself
	}
	d.halt()
	if err := d.t.Reset(ctx); err != nil {
		return err
	}
	d.edit(func(s *state) { s.restarts++ })
	return d.start(ctx)
}

// heal restarts one ring, and where the transport cannot, the device. Its
// buffers are back before the device has it again.
func (d *Driver) heal(r *ring, why error) {
	if wait := restartPause - time.Since(r.restart); wait > 0 {
		time.AfterFunc(wait, d.poke)
		return
	}
	r.restart = time.Now()
	d.tellChange(Change{Kind: QueueBroken, Queue: r.index, Err: why})
	d.turn(func() error {
		if !d.now().present || r.failure() == nil {
			return nil // it was, or will be, restarted with the device
		}
		if _, err := d.t.Disconnect(d.ctx, r.index); err != nil {
			return d.reset(d.ctx)
		}
		d.renew(r.index)
		if err := d.connect(d.ctx, r); err != nil {
			return err
		}
		r.set(func() { r.stats.Restarts++ })
		d.run(r)
		return nil
	})
}

// ring gives ring i.
func (d *Driver) ring(i int) *ring {
	if i%2 == 0 {
		return &d.rx[i/2].ring
	}
	return &d.tx[i/2].ring
}

// configChanged reads the configuration space again.
func (d *Driver) configChanged() {
	before, _ := d.Link()
	d.readConfig(d.ctx)
	after, _ := d.Link()
	kind := ConfigChanged
	if before != after {
		kind = LinkChanged
	}
	if d.now().Announce {
		_ = d.tell(d.ctx, classAnnounce, announceAck, nil)
	}
	d.tellChange(Change{Kind: kind})
}
