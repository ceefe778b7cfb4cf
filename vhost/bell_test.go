package vhost

import (
	"bytes"
	"runtime"
	"testing"
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
