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
	first := 2 * min(n, before)
	for i := first; i < 2*max(n, before); i++ {
		if err := d.t.Enable(ctx, i, n > before); err != nil {
			for ; i >= first; i-- { // this one too: it may be done by now
				_ = d.t.Enable(d.ctx, i, n < before)
			}
			return err
		}
	}
	d.edit(func(s *state) { s.pairs = n })
	return nil
}

// hold lets the first n pairs send, and no others, with every device from now on.
func (d *Driver) hold(n int) {
	d.edit(func(s *state) { s.sending = n })
	for i, t := range d.tx {
		t.set(func() { t.held = i >= n })
	}
}
