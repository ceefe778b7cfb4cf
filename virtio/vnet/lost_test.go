package vnet_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// A back-end that ends under traffic, with and without IN_ORDER, in which case
// rings resume: the driver goes on with the next one, and no buffer is missing
// in the end (rig.balance).
func TestABackEndThatComesBackIsServedAgain(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	for name, without := range map[string]virtio.Features{"resumes": 0, "begins anew": virtio.FeatureInOrder} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{pairs: 2, device: func(e *echo) { e.spec.Without = without }})
			w := []*worker{r.worker(0, 300), r.worker(1, 1000)}
			for range rounds {
				for _, w := range w {
					w.turn(t.Context(), 200, 100)
					for w.send(32) == 0 { // on the way as it ends
						w.receive()
					}
				}
				r.end()
				r.change(vnet.DeviceLost)
				if n := w[0].send(1); n != 0 {
					t.Fatal("a frame was sent to nobody")
				}
				r.serve()
				r.change(vnet.DeviceBack)
				for _, w := range w {
					w.settle(t)
				}
			}
			s := r.Stats()
			if s.Lost != uint64(rounds) || !s.Present {
				t.Errorf("lost %d times in %d rounds: %+v", s.Lost, rounds, s)
			}
		})
	}
}

// settle receives what is on the way after a device was lost, some of which may
// be missing or come twice, until a frame that was sent later has come.
func (w *worker) settle(t *testing.T) {
	t.Helper()
	w.old = true
	last := w.next
	eventually(t, "a frame comes back from the new device", func() bool {
		w.send(1)
		w.receive()
		return w.got > last
	})
	eventually(t, "everything else has come", func() bool {
		w.receive()
		return w.got == w.next
	})
	w.old = false
}

// Workers that wait go on by themselves when there is a device again.
func TestWaitsEndWhenTheDeviceIsBack(t *testing.T) {
	r := newRig(t, rigOptions{})
	w := r.worker(0, 64)
	w.turn(t.Context(), 10, 10)
	r.end()
	r.change(vnet.DeviceLost)
	waited := make(chan error, 2)
	go func() { waited <- r.Tx(0).Wait(t.Context()) }()
	go func() { waited <- r.Rx(0).Wait(t.Context()) }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := r.Tx(0).Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a wait for a device that is gone ends with %v", err)
	}
	r.serve()
	ok(t, <-waited)
	ok(t, <-waited)
}

// A driver is closed while there is no device: nothing is kept.
func TestADriverWithoutADeviceCloses(t *testing.T) {
	r := newRig(t, rigOptions{})
	w := r.worker(0, 64)
	w.send(32)
	r.end()
	r.change(vnet.DeviceLost)
	r.stop()
	if err := r.Rx(0).Wait(t.Context()); !errors.Is(err, vnet.ErrClosed) {
		t.Errorf("a wait after Close ends with %v", err)
	}
	if w.send(1) != 0 || r.Rx(0).Receive(w.in) != 0 {
		t.Error("a closed driver sends or receives")
	}
	r.serve()
}

// Who waits hears of Close.
func TestCloseEndsAWait(t *testing.T) {
	r := newRig(t, rigOptions{})
	waited := make(chan error)
	go func() {
		for {
			if err := r.Rx(0).Wait(context.Background()); err != nil {
				waited <- err
				return
			}
		}
	}()
	r.stop()
	select {
	case err := <-waited:
		if !errors.Is(err, vnet.ErrClosed) {
			t.Errorf("the wait ends with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the wait goes on")
	}
}

// A device that does not answer keeps what was lent to it, until the transport
// is closed.
func TestADeviceThatDoesNotAnswerKeepsItsBuffers(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.worker(0, 64).send(10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Close(ctx); err == nil {
		t.Fatal("closed without having heard of the device")
	}
	if n := r.pool.Stats().Lent; n == 0 {
		t.Error("buffers are back that the device may use")
	}
	ok(t, r.front.Close())
	r.stop()
}

// A ring that the device gives up is restarted, alone.
func TestABrokenRingIsRestarted(t *testing.T) {
	r := newRig(t, rigOptions{pairs: 2})
	s := <-r.dev.opened
	w := []*worker{r.worker(0, 64), r.worker(1, 64)}
	for range 3 {
		w[0].turn(t.Context(), 100, 32)
		w[1].turn(t.Context(), 100, 32)
		s.Break(1, errTest)
		if c := r.change(vnet.QueueBroken); c.Queue != 1 {
			t.Fatalf("%+v, want ring 1", c)
		}
		eventually(t, "ring 1 was restarted", func() bool { return r.Stats().Tx[0].Restarts > 0 })
		w[0].settle(t)
	}
	if q := r.Stats(); q.Restarts != 0 || q.Tx[1].Restarts != 0 || q.Rx[0].Restarts != 0 {
		t.Errorf("more was restarted than one ring: %+v", q)
	}
}
