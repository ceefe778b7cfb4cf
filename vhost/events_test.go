package vhost

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// handler is a Handler made of a function. It counts what it was asked.
type handler struct {
	serve  func(*virtio.Queue) error
	serves atomic.Int64
}

func (h *handler) Serve(q *virtio.Queue) error { h.serves.Add(1); return h.serve(q) }
func (h *handler) Close() error                { return nil }

// dropping is a handler that also takes what comes while it is disabled.
type dropping struct {
	handler
	drops atomic.Int64
}

func (h *dropping) Drop(q *virtio.Queue) error { h.drops.Add(1); return take(q) }

// take gives every chain back as it is.
func take(q *virtio.Queue) error {
	for c := range q.Chains() {
		c.Done(0)
	}
	return nil
}

// blamed is the owner of memory that vanishes.
type blamed struct{ failed chan error }

func newBlamed() *blamed { return &blamed{make(chan error, 100)} }

func (b *blamed) Fail(err error) {
	select {
	case b.failed <- err:
	default:
	}
}

// bench is a job over a rig's queue; what it reports is kept.
type bench struct {
	*virtiotest.Rig
	job    *Job
	owner  *blamed
	kick   int
	broken chan error
}

func newBench(t testing.TB, h Handler, o virtiotest.Options) *bench {
	t.Helper()
	b := &bench{Rig: virtiotest.New(t, o), owner: newBlamed(), broken: make(chan error, 100)}
	b.job = &Job{
		Name: "bench", Owner: b.owner, Queue: b.Queue, Handler: h,
		Broken: func(err error) { b.broken <- err },
	}
	given, peer := bell(t)
	b.kick = peer
	if err := b.job.SetKick(given, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.job.Close() })
	return b
}

// attach gives the job to a runner until the test ends.
func (b *bench) attach(t testing.TB) Runner {
	t.Helper()
	r := Events(b.Domain)
	if err := r.Attach(b.job); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		if err := r.Detach(ctx, b.job); err != nil {
			t.Error(err)
		}
	})
	return r
}

// back waits for one chain to come back.
func (b *bench) back(t testing.TB) {
	t.Helper()
	eventually(t, "a chain comes back", func() bool {
		_, ok, err := b.Reap()
		if err != nil {
			t.Fatal(err)
		}
		return ok
	})
}

// free fails when a worker is left in its section, or the queue in its stay.
func (b *bench) free(t testing.TB) {
	t.Helper()
	b.Wait()
	b.Stay(func(*virtio.Queue) {})
}

func TestEventsLooksAtTheRingBeforeAnyKick(t *testing.T) {
	here := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, here) })
	b := newBench(t, &handler{serve: take}, virtiotest.Options{})
	b.Send([]byte("there already"))
	b.attach(t)
	b.back(t)
	if n := b.job.Kicks(); n != 0 {
		t.Errorf("%d kicks were counted", n)
	}
}

// The driver kicks only when the device asked for it, so one lost notification
// is a chain that never comes back.
func TestEventsLosesNoNotification(t *testing.T) {
	for _, features := range []virtio.Features{0, virtio.FeatureEventIdx} {
		t.Run(fmt.Sprint(features.Names(virtio.Net)), func(t *testing.T) {
			b := newBench(t, &handler{serve: take},
				virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Features: features}})
			b.attach(t)
			for i := range 2000 {
				n := 1 + i%3
				for range n {
					b.Make(virtiotest.Request{Out: [][]byte{{1}}})
				}
				if b.Publish() {
					_ = addEventfd(b.kick)
				}
				for range n {
					b.back(t)
				}
			}
		})
	}
}

// A handler may leave work for the next round; no kick tells of it.
func TestEventsGoesOnWithWorkThatWasLeft(t *testing.T) {
	h := &handler{serve: func(q *virtio.Queue) error {
		if c, ok := q.Next(); ok {
			c.Done(0)
		}
		return nil
	}}
	b := newBench(t, h, virtiotest.Options{})
	for range 5 {
		b.Make(virtiotest.Request{Out: [][]byte{{1}}})
	}
	b.Publish()
	b.attach(t)
	for range 5 {
		b.back(t)
	}
}

func TestEventsReportsARingThatBreaks(t *testing.T) {
	trouble := errors.New("trouble")
	h := &handler{serve: func(*virtio.Queue) error { return trouble }}
	b := newBench(t, h, virtiotest.Options{})
	r := b.attach(t)
	if err := <-b.broken; err != trouble {
		t.Errorf("Broken was told %v", err)
	}
	// It is parked now, and looks again only when woken.
	r.Wake(b.job)
	<-b.broken
	b.Wait() // no worker is left in a section
}

func TestEventsReportsAJumpOfTheAvailableIndex(t *testing.T) {
	b := newBench(t, &handler{serve: take}, virtiotest.Options{})
	idx := b.View.Ring.Avail[2:4]
	order.PutUint16(idx, b.View.Ring.Size+1)
	defer order.PutUint16(idx, 0) // the rig asks at its end who wrote what
	b.attach(t)
	var ring *virtio.RingError
	if err := <-b.broken; !errors.As(err, &ring) {
		t.Errorf("Broken was told %v", err)
	}
}

func TestEventsDetachWaitsForTheHandlerAndNotForEver(t *testing.T) {
	here := goleak.IgnoreCurrent()
	entered, release := make(chan struct{}), make(chan struct{})
	h := &handler{serve: func(*virtio.Queue) error {
		close(entered)
		<-release
		return nil
	}}
	b := newBench(t, h, virtiotest.Options{})
	r := Events(b.Domain)
	if err := r.Attach(b.job); err != nil {
		t.Fatal(err)
	}
	if r.Attach(b.job) == nil {
		t.Error("a job was attached twice")
	}
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := r.Detach(ctx, b.job); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Detach from a busy handler: %v", err)
	}
	close(release)
	within(t, "Detach", func() {
		if err := r.Detach(context.Background(), b.job); err != nil {
			t.Error(err)
		}
	})
	if n := h.serves.Load(); n != 1 {
		t.Errorf("served %d times, after Detach too", n)
	}
	r.Wake(b.job)
	goleak.VerifyNone(t, here)
}

func TestEventsPollsARingWithoutAKick(t *testing.T) {
	b := newBench(t, &handler{serve: take}, virtiotest.Options{})
	if err := b.job.SetKick(-1, true); err != nil {
		t.Fatal(err)
	}
	b.attach(t)
	for range 20 {
		b.Send([]byte("nobody kicks"))
		b.back(t)
	}
}
