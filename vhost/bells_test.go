package vhost

import (
	"bytes"
	"errors"
	"runtime"
	"testing"
	"time"
)

// A doorbell's file is changed only when nobody writes to the old one, and that
// is up to the peer for a while.
func TestInfoDoesNotWaitForADoorbell(t *testing.T) {
	for name, change := range map[string]func(c *Conn, g *guest) error{
		"SET_VRING_CALL": func(c *Conn, g *guest) error { return c.SetVringCall(0, g.call) },
		"SET_VRING_ERR":  func(c *Conn, g *guest) error { return c.SetVringErr(0, g.err) },
		"GET_VRING_BASE": func(c *Conn, _ *guest) error { _, err := c.GetVringBase(0); return err },
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			device := newFiller(twoRings)
			c, g, _ := running(t, &Server{Device: device})
			s := <-device.opened
			r := s.rings[0]
			r.call.control.Lock()
			r.err.control.Lock()
			answer := make(chan error, 1)
			go func() { answer <- change(c, g) }()
			stacks := make([]byte, 1<<20)
			eventually(t, "the session is at the doorbell", func() bool {
				return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("(*doorbell).Set("))
			})
			within(t, "Info", func() { s.Info() })
			r.call.control.Unlock()
			r.err.control.Unlock()
			ok(t, <-answer)
		})
	}
}

func TestACallThatHangsEndsItsSessionAndNoOther(t *testing.T) {
	noLeaks(t)
	quiet, other, _ := running(t, &Server{Device: newFiller(twoRings)})
	c, g, ended := running(t, &Server{Device: newFiller(twoRings)})
	g.filled(t)
	eventually(t, "a call", func() bool { return signals(g.call) > 0 })
	jam(t, g.call)
	g.post()
	if err := dies(t, ended); !errors.Is(err, errHang) {
		t.Errorf("it ended because of: %v", err)
	}
	c.Close()
	other.filled(t)
	lives(t, quiet)
}

// A write that was slow once, or many that follow each other, do not hang.
func TestOnlyOneAndTheSameWriteHangs(t *testing.T) {
	hung := 0
	d := newDoorbell(&bells{hung: func(error) { hung++ }})
	timer := time.NewTimer(time.Hour) // in the place of the real one, which calls late itself
	for _, step := range []struct {
		under uint64
		hung  int
	}{{0, 0}, {1, 0}, {2, 0}, {0, 0}, {3, 0}, {4, 0}, {4, 1}} {
		d.under.Store(step.under)
		d.late(timer)
		if hung != step.hung {
			t.Fatalf("write %d: hung %d times, want %d", step.under, hung, step.hung)
		}
	}
}

// A port has hundreds of doorbells; a thread for each that hangs would be too
// many. Those that must wait for a place can be closed all the same.
func TestTheDoorbellsOfASessionHoldFewThreads(t *testing.T) {
	noLeaks(t)
	b := new(bells)
	var all []*doorbell
	for range 2 * doorbellMax {
		d := newDoorbell(b)
		given, peer := bell(t)
		jam(t, peer)
		setBell(t, d, given)
		d.Ring()
		all = append(all, d)
	}
	hanging := func() (n int) {
		for _, d := range all {
			if d.under.Load() != 0 {
				n++
			}
		}
		return n
	}
	eventually(t, "as many hang as may", func() bool { return hanging() == doorbellMax })
	for range 100 { // the others try again and again
		runtime.Gosched()
		if n := hanging(); n > doorbellMax {
			t.Fatalf("%d writes hang", n)
		}
	}
	within(t, "Close", func() {
		for _, d := range all {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
