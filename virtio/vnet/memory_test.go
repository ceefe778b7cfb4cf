package vnet_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// slotless are the protocol features of a back-end that takes whole tables only.
const slotless = vhost.ProtocolMQ | vhost.ProtocolReplyAck | vhost.ProtocolConfig

// The pool grows and shrinks under traffic, and no frame is missing: with memory
// slots nobody notices, without them the driver pauses for a moment.
func TestMemoryComesAndGoesUnderTraffic(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	for name, protocol := range map[string]vhost.ProtocolFeatures{"slots": 0, "tables": slotless} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{protocol: protocol})
			w := r.worker(0, 400)
			for range rounds {
				grown := make(chan error)
				go func() {
					err := r.pool.Grow(t.Context(), 2048)
					if err == nil {
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						defer cancel()
						_, err = r.pool.Shrink(ctx, 2048)
					}
					grown <- err
				}()
				for done := false; !done; {
					w.turn(t.Context(), 50, 100)
					select {
					case err := <-grown:
						ok(t, err)
						done = true
					default:
					}
				}
			}
			if n := r.dev.dropped.Load(); n != 0 {
				t.Errorf("the device dropped %d frames", n)
			}
			i := r.front.Info().Share
			if paused := i.Pauses > 0; paused != (protocol != 0) {
				t.Errorf("%d pauses: %+v", i.Pauses, i)
			}
		})
	}
}

// A pause waits for what was sent, holds what is to be sent, and ends.
func TestAPauseWaitsForWhatWasSent(t *testing.T) {
	r := newRig(t, rigOptions{})
	w := r.worker(0, 64)
	w.turn(t.Context(), 10, 10)
	r.dev.beDeaf(true)
	w.send(5)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.Pause(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a pause over frames that nobody takes: %v", err)
	}
	if w.send(1) != 0 {
		t.Error("a frame was sent in a pause")
	}
	waited := make(chan error)
	go func() { waited <- r.Tx(0).Wait(t.Context()) }()
	r.dev.beDeaf(false)
	r.Resume()
	ok(t, <-waited)
	w.turn(t.Context(), 100, 32)
	ok(t, r.Pause(t.Context()))
	if n := r.Tx(0).Lent(); n != 0 {
		t.Errorf("%d frames are lent in a pause", n)
	}
	r.Resume()
}

// Who receives without giving back is told, and goes on with what comes back.
func TestAnEmptyPoolEndsAWait(t *testing.T) {
	r := newRig(t, rigOptions{count: 512, driver: func(c *vnet.DriverConfig) { c.Size = 128 }})
	w := r.worker(0, 64)
	var kept []vnet.Frame
	for {
		w.send(8)
		in := make([]vnet.Frame, 8)
		n := r.Rx(0).Receive(in)
		kept = append(kept, in[:n]...)
		r.Tx(0).Reap()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		err := r.Rx(0).Wait(ctx)
		cancel()
		if errors.Is(err, vnet.ErrNoBuffers) {
			break
		}
		if len(kept) > 512 {
			t.Fatal("more was received than there is")
		}
	}
	if r.Stats().Rx[0].NoBuffers == 0 {
		t.Error("nobody counted it")
	}
	r.Rx(0).Release(kept)
	w.settle(t)
	w.turn(t.Context(), 100, 16)
}

// TestAMillionFramesAllocateNothing, sent and received, polled or waited for.
func TestAMillionFramesAllocateNothing(t *testing.T) {
	const limit = 100
	total := 1_000_000
	if testing.Short() || raceEnabled {
		total /= 50
	}
	r := newRig(t, rigOptions{})
	in, out := make([]vnet.Frame, 32), r.worker(0, 64)
	bufs := out.out
	tx, rx := r.Tx(0), r.Rx(0)
	ctx := t.Context()
	burst := func(total int) {
		for sent, got := 0, 0; got < total; {
			want := bufs[:min(32, total-sent, 128-(sent-got))]
			want = want[:tx.Get(want)]
			for i := range want {
				want[i].Len = vnet.Headroom + 64
			}
			n := tx.Send(want)
			tx.Put(want[n:])
			sent += n
			n = rx.Receive(in)
			rx.Release(in[:n])
			if got += n; n == 0 {
				ok(t, rx.Wait(ctx))
			}
		}
	}
	burst(1000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	burst(total)
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	n := after.Mallocs - before.Mallocs
	t.Logf("%d frames there and back in %v (%.0f ns each): %d allocations", total, took, float64(took.Nanoseconds())/float64(total), n)
	if n > limit && !raceEnabled { // with the race detector, writing an eventfd allocates
		t.Errorf("%d allocations, at most %d are allowed", n, limit)
	}
}
