package vnet

import (
	"context"
	"fmt"

	"github.com/vhostd/vhostd/virtio"
)

// Close takes everything back: workers get [ErrClosed], the device is reset,
// buffers go back to where they came from, and the memory of rings is freed. The
// transport stays open.
//
// A device that is not reset until ctx ends may still use its memory: the error
// says so, nothing is given back, and Close can be called again, best after the
// transport was closed.
func (d *Driver) Close(ctx context.Context) error {
	if p, ok := d.t.(virtio.PausingTransport); ok {
		p.SetPauser(nil)
	}
	for r := range d.all {
		r.set(func() { r.closed, r.running = true, false })
	}
	d.edit(func(s *state) { s.closing = true })
	if err := d.resetForGood(ctx); err != nil {
		if err = d.awaitGone(ctx, err); err != nil {
			return fmt.Errorf("network driver: the device may still use its memory: close the transport, and then the driver again: %w", err)
		}
	}
	d.cancel()
	<-d.done
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if d.memory == nil {
		return nil
	}
	d.reclaim()
	return d.freeRings()
}

// resetForGood resets a device that is there. Nothing brings it up again: what
// was under way has ended, and what comes next sees that the driver closes.
func (d *Driver) resetForGood(ctx context.Context) error {
	d.ctl.Lock()
	defer d.ctl.Unlock()
	if d.now().gone || d.memory == nil {
		return nil
	}
	if err := d.t.Reset(ctx); err != nil {
		return err
	}
	d.edit(func(s *state) { s.present = false })
	return nil
}

// awaitGone waits until a device that could not be reset is gone, if it is going.
func (d *Driver) awaitGone(ctx context.Context, err error) error {
	for {
		s := d.now()
		if s.gone {
			return nil
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return err
		}
	}
}
