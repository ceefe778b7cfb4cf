package pktgen

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/backend"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/fabric"
	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/vhost"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// hall is a switch of two ports, at the sockets that it gives.
type hall struct {
	t     *testing.T
	sw    *fabric.Switch
	ports [2]*fabric.Port
	Paths [2]string
	end   [2]func()
}

func newHall(t *testing.T, pairs int) *hall {
	t.Helper()
	h := &hall{t: t, sw: fabric.New("test", fabric.Options{})}
	dir := t.TempDir()
	for i := range 2 {
		p, err := h.sw.AddPort(fabric.PortOptions{Name: fmt.Sprint(i), Pairs: pairs})
		if err != nil {
			t.Fatal(err)
		}
		h.ports[i], h.Paths[i] = p, filepath.Join(dir, fmt.Sprint(i))
		h.serve(i)
		t.Cleanup(func() { h.end[i]() })
	}
	return h
}

// serve starts port i's server.
func (h *hall) serve(i int) {
	h.t.Helper()
	l, err := vhost.Listen(h.Paths[i], vhost.ListenOptions{UID: -1, GID: -1})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = (&vhost.Server{Device: h.ports[i], Runner: vhost.Events(h.sw.Domain())}).Serve(ctx, l) })
	h.end[i] = func() {
		cancel()
		running.Wait()
	}
}

// config is that of a run at port i.
func (h *hall) config(i int, mode Mode) Config {
	return Config{
		Address: backend.Address{Socket: h.Paths[i], Wait: patience}, Mode: mode, Sizes: Sizes{60}, Flows: 1, Burst: 32, Pairs: 1, Ring: 256,
		Drain: 2 * time.Second, Memory: memfd.Options{NoHuge: true},
	}
}

// start runs c until it is done, or stop is called. ended gives its report.
func (h *hall) start(c Config) (stop func(), ended func() *Report) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	done := make(chan *Report, 1)
	go func() {
		r, err := Run(ctx, c, nil)
		if err != nil {
			h.t.Errorf("%s: %v", c.Mode, err)
		}
		done <- r
	}()
	h.t.Cleanup(cancel)
	return cancel, func() *Report {
		h.t.Helper()
		r := <-done
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			h.t.Fatalf("%s did not end in %v", c.Mode, patience)
		}
		if r == nil {
			h.t.FailNow()
		}
		return r
	}
}

// sound fails if a frame was damaged, or came twice, or from elsewhere.
func sound(t *testing.T, r *Report) {
	t.Helper()
	if c := r.Checked; c.Damaged+c.Duplicate+c.Foreign > 0 || c.Unique != r.Received.Frames {
		t.Errorf("%s received %d frames: %+v", r.Mode, r.Received.Frames, *c)
	}
}

// awaitPort waits until a front-end at port i can be sent to.
func (h *hall) awaitPort(i int) {
	h.t.Helper()
	h.until("rings that run", func() bool {
		s := h.ports[i].Session()
		return s != nil && !slices.ContainsFunc(s.Info().Rings, func(r vhost.RingInfo) bool { return !r.Started || !r.Enabled })
	})
}

// awaitFrames waits until more frames come from the front-end at port 0.
func (h *hall) awaitFrames() {
	h.t.Helper()
	before := h.ports[0].Stats().InFrames
	h.until("frames that come", func() bool { return h.ports[0].Stats().InFrames > before })
}

// dropped is how many frames the switch dropped.
func (h *hall) dropped() (n uint64) {
	for _, p := range h.ports {
		for _, d := range p.Stats().Drops {
			n += d
		}
	}
	return n
}

// settled waits until sent frames have gone through, or were dropped, and says how
// many were.
func (h *hall) settled(sent uint64) uint64 {
	h.t.Helper()
	h.until(fmt.Sprintf("end of %d frames", sent), func() bool { return h.ports[1].Stats().OutFrames+h.dropped() == sent })
	return h.dropped()
}

func (h *hall) until(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("no %s in %v", what, patience)
		}
	}
}
