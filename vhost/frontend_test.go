package vhost

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vhostd/vhostd/virtio"
)

// front dials the back-end at path and accepts VERSION_1.
func front(t testing.TB, path string, s *supply, edit func(*FrontendConfig)) *Frontend {
	t.Helper()
	cfg := FrontendConfig{Device: virtio.Entropy, Memory: s, Timeout: testTimeout}
	if edit != nil {
		edit(&cfg)
	}
	f, err := Dial(t.Context(), path, cfg)
	ok(t, err)
	t.Cleanup(func() { ok(t, f.Close()) })
	ok(t, f.Accept(t.Context(), virtio.FeatureVersion1))
	return f
}

func TestFrontendServesARingThroughAServer(t *testing.T) {
	noLeaks(t)
	s := newSupply(t, 4, 2)
	f := front(t, listenAndServe(t, &Server{Device: newFiller(twoRings)}), s, nil)
	if f.Queues() != 2 || !f.Features().Has(virtio.FeatureVersion1) || f.Features().Has(virtio.FeatureProtocol) {
		t.Errorf("%d rings, features %#x", f.Queues(), f.Features())
	}
	d := newHandDriver(f, s, 0, 0)
	d.fresh(t)
	ok(t, f.Start(t.Context()))
	for range 3 * ringSize {
		d.serves(t)
	}
	at, err := f.Disconnect(t.Context(), 0)
	ok(t, err)
	if at != 3*ringSize {
		t.Errorf("the ring stopped at %d, want %d", at, 3*ringSize)
	}
	if err := d.line.Wait(t.Context()); !errors.Is(err, ErrDisconnected) {
		t.Errorf("a wait for a ring that was taken back: %v", err)
	}
	d.connect(t, at)
	d.serves(t)
}

func TestFrontendIsDialledByABackEnd(t *testing.T) {
	noLeaks(t)
	path := t.TempDir() + "/s"
	l, err := Listen(path, ListenOptions{UID: -1, GID: -1})
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = (&Server{Device: newFiller(twoRings)}).DialAndServe(ctx, path) })
	s := newSupply(t, 4, 2)
	f, err := Accept(t.Context(), l, FrontendConfig{Device: virtio.Entropy, Memory: s, Timeout: testTimeout})
	ok(t, err)
	ok(t, f.Accept(t.Context(), virtio.FeatureVersion1))
	d := newHandDriver(f, s, 1, 0)
	d.fresh(t)
	ok(t, f.Start(t.Context()))
	d.serves(t)
	ok(t, f.Close())
	cancel()
	within(t, "the end of the back-end", running.Wait)
}

func TestFrontendWithoutABackEndEndsWithItsContext(t *testing.T) {
	noLeaks(t)
	path := t.TempDir() + "/s"
	if _, err := Dial(t.Context(), path, FrontendConfig{Device: virtio.Entropy, Memory: newSupply(t, 1, 1)}); err == nil {
		t.Error("connected to nobody")
	}
	l, err := Listen(path, ListenOptions{UID: -1, GID: -1})
	ok(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	within(t, "Accept", func() {
		if _, err := Accept(ctx, l, FrontendConfig{Device: virtio.Entropy, Memory: newSupply(t, 1, 1)}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("accepted nobody: %v", err)
		}
	})
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("the listener is open still")
	}
}

func TestFrontendComesBackAndServesAgain(t *testing.T) {
	noLeaks(t)
	s := newSupply(t, 4, 2)
	dev := newFiller(twoRings)
	f := front(t, listenAndServe(t, &Server{Device: dev}), s, nil)
	d := newHandDriver(f, s, 0, 0)
	for range 3 {
		session := <-dev.opened
		d.fresh(t)
		ok(t, f.Start(t.Context()))
		d.serves(t)
		session.Fail(errors.New("the test ends it"))
		event(t, f, virtio.Lost)
		if err := d.line.Wait(t.Context()); !errors.Is(err, ErrLost) {
			t.Errorf("a wait for a back-end that is gone: %v", err)
		}
		ok(t, s.arrive(t.Context(), 2)) // while there is no back-end, or just when there is
		if e := event(t, f, virtio.Back); e.Resumes {
			t.Error("rings resume though nobody knows what was in flight")
		}
		ok(t, s.leave(t.Context(), 2))
	}
}

// With AwaitExit the end of the connection is not enough.
func TestFrontendWaitsForTheEndOfTheProcess(t *testing.T) {
	noLeaks(t)
	s := newSupply(t, 4, 2)
	r := newReferee(t, 0)
	f := front(t, r.path, s, func(c *FrontendConfig) { c.AwaitExit, c.Timeout = true, 100*time.Millisecond })
	if err := f.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := f.link
	f.give()
	if l.pidfd < 0 {
		t.Skip("the kernel gives no pidfd of the peer")
	}
	r.last().c.Close()
	within(t, "the end of the connection", func() { <-l.left })
	if err := s.leave(t.Context(), 1); !errors.Is(err, errLingers) && !errors.Is(err, ErrLost) {
		t.Errorf("memory left a process that runs (it is this one): %v", err)
	}
	select {
	case e := <-f.Events():
		t.Errorf("told %+v of a process that runs", e)
	default:
	}
}

// A device that is not reset has let go of its rings all the same: it begins
// anew. A connection that ends is an error still.
func TestFrontendAResetThatIsRefusedIsOne(t *testing.T) {
	noLeaks(t)
	for _, refused := range [][]Request{{SetStatus}, {ResetDevice}, {SetStatus, ResetDevice}} {
		r := newReferee(t, 0)
		f, d := runs(t, r, newSupply(t, 4, 2), nil)
		r.follow(func(m *message) action { return action{refuse: slices.Contains(refused, Request(m.Request))} })
		if err := f.Reset(t.Context()); err != nil {
			t.Errorf("%v refused: %v", refused, err)
		}
		r.look(func(m *match) {
			if m.anyRunning() {
				t.Error("a ring runs after a reset")
			}
		})
		r.follow(nil)
		ok(t, f.Accept(t.Context(), virtio.FeatureVersion1))
		d.fresh(t)
		ok(t, f.Start(t.Context()))
		r.follow(func(m *message) action { return action{hangUp: slices.Contains(refused, Request(m.Request))} })
		if err := f.Reset(t.Context()); !errors.Is(err, ErrLost) {
			t.Errorf("the connection ended at %v: %v", refused, err)
		}
	}
}
