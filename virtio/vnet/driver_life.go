package vnet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vhostd/vhostd/virtio"
)

// poke has the driver's goroutine look. It does not block: one look is enough for
// all that happened before it.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
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
		case <-d.broken:
			for r := range d.all {
				r.waits = false
				d.heal(r)
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
		d.turn(func() error {
			d.edit(func(s *state) { s.gone = false })
			return d.serve(d.ctx, e.Resumes)
		})
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
	if err := d.alone(bringUp); err != nil && d.ctx.Err() == nil {
		d.tellChange(Change{Kind: DeviceBroken, Err: err})
		time.AfterFunc(restartPause, func() { poke(d.retry) })
	}
}

// alone is turn's work, while nobody else does something with the device.
func (d *Driver) alone(bringUp func() error) error {
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if d.now().closing {
		return nil
	}
	err := bringUp()
	if err != nil {
		d.halt()
	}
	return err
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
	d.reclaim() // before anything fails: who sends may need the buffers
	if err := d.accept(ctx); err != nil {
		return err
	}
	return d.serve(ctx, false)
}

// heal restarts one ring, and where the transport cannot, the device. Its
// buffers are back before the device has it again.
func (d *Driver) heal(r *ring) {
	why := r.isBroken()
	if why == nil || !d.now().present {
		return // it was, or will be, restarted with the device
	}
	if wait := restartPause - time.Since(r.restart); wait > 0 {
		if !r.waits {
			r.waits = true
			time.AfterFunc(wait, func() { poke(d.broken) })
		}
		return
	}
	r.restart = time.Now()
	d.tellChange(Change{Kind: QueueBroken, Queue: r.index, Err: why})
	d.turn(func() error {
		if !d.now().present || r.isBroken() == nil {
			return nil
		}
		if _, err := d.t.Disconnect(d.ctx, r.index); err != nil {
			return d.reset(d.ctx)
		}
		if err := d.renew(r); err != nil {
			return err
		}
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
