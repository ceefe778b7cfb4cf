package vnet

import (
	"context"
	"fmt"
	"time"
)

// Pause implements virtio.Pauser: it sends nothing any more, and returns when the
// device is done with all that was sent.
func (d *Driver) Pause(ctx context.Context) error {
	for _, t := range d.tx {
		t.set(func() { t.paused = true })
	}
	return drain(ctx, d.tx)
}

// Resume implements virtio.Pauser.
func (d *Driver) Resume() {
	for _, t := range d.tx {
		t.set(func() { t.paused = false })
	}
}

// How often a drain looks: soon at first, since most devices are done at once.
const (
	drainMin = 20 * time.Microsecond
	drainMax = time.Millisecond
)

// drain waits until queues that send nothing have their buffers back. It looks,
// and does not ask for calls: those are the workers'.
func drain(ctx context.Context, queues []*Tx) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := drainMin
	for _, t := range queues {
		for t.Reap(); t.Lent() > 0; t.Reap() {
			timer.Reset(pause)
			pause = min(2*pause, drainMax)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return fmt.Errorf("the device holds %d frames of ring %d: %w", t.Lent(), t.index, context.Cause(ctx))
			}
		}
	}
	return nil
}

// usePairs uses n queue pairs. ctl is held.
func (d *Driver) usePairs(ctx context.Context, n int) error {
	if n < 1 || n > d.cfg.Pairs {
		return fmt.Errorf("%d queue pairs of %d: %w", n, d.cfg.Pairs, ErrRefused)
	}
	before := d.now().pairs
	if n < before {
		d.hold(n)
		if err := drain(ctx, d.tx[n:before]); err != nil {
			d.hold(before)
			return err
		}
	}
	for i := 2 * min(n, before); i < 2*max(n, before); i++ {
		if err := d.t.Enable(ctx, i, i < 2*n); err != nil {
			return err
		}
	}
	d.edit(func(s *state) { s.pairs = n })
	d.hold(n)
	return nil
}

// hold lets the first n pairs send, and no others.
func (d *Driver) hold(n int) {
	for i, t := range d.tx {
		t.set(func() { t.held = i >= n })
	}
}
