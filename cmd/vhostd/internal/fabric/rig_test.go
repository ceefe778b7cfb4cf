package fabric

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/vhost/vhosttest"
	"github.com/vhostd/vhostd/virtio"
)

// hall is a switch with served ports, for a test.
type hall struct {
	tb    testing.TB
	sw    *Switch
	ports []*Port
	paths []string
}

// open makes a switch with n ports, each with a server that listens. adapt may
// change the server of a port before it serves.
func open(tb testing.TB, n int, o PortOptions, adapt ...func(port int, s *vhost.Server)) *hall {
	tb.Helper()
	h := &hall{tb: tb, sw: New("test", Options{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, n)
	dir := tb.TempDir()
	for i := range n {
		o.Name = fmt.Sprintf("p%d", i)
		p, err := h.sw.AddPort(o)
		if err != nil {
			tb.Fatal(err)
		}
		path := filepath.Join(dir, o.Name)
		l, err := vhost.Listen(path, vhost.ListenOptions{UID: -1, GID: -1})
		if err != nil {
			tb.Fatal(err)
		}
		s := &vhost.Server{Device: p, Runner: vhost.Events(h.sw.Domain())}
		for _, f := range adapt {
			f(i, s)
		}
		go func() { done <- s.Serve(ctx, l) }()
		h.ports, h.paths = append(h.ports, p), append(h.paths, path)
	}
	tb.Cleanup(func() {
		cancel()
		for range n {
			<-done
		}
	})
	return h
}

// plug connects a guest to port i and waits until frames can go to it.
func (h *hall) plug(i int, o vhosttest.Options) *vhosttest.Guest {
	h.tb.Helper()
	g := vhosttest.Plug(h.tb, h.paths[i], o)
	h.until("port runs", func() bool { return h.ports[i].conn.Load().receive(0) != nil })
	return g
}

// until polls a condition; the test fails when it does not come true.
func (h *hall) until(what string, ok func() bool) {
	h.tb.Helper()
	for end := time.Now().Add(vhosttest.Timeout); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			h.tb.Fatalf("%s: not in %v", what, vhosttest.Timeout)
		}
	}
}

// dropped waits until a port counted n frames for a reason.
func (h *hall) dropped(port int, why Reason, n uint64) {
	h.tb.Helper()
	h.until(fmt.Sprintf("%d frames dropped for %v at port %d", n, why, port), func() bool {
		return h.ports[port].Stats().Drops[why.String()] == n
	})
}

// address is the MAC address of the guest at a port.
func address(port int) [6]byte { return [6]byte{2, 0, 0, 0, 0, byte(port + 1)} }

var broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// greet makes the switch learn the addresses of guests, by a broadcast from
// each that all the others receive.
func (h *hall) greet(guests ...*vhosttest.Guest) {
	h.tb.Helper()
	for i, g := range guests {
		g.Send(vhosttest.Frame(broadcast, address(i), 60, 0))
		for j, other := range guests {
			if j != i && other.Recv(vhosttest.Timeout) == nil {
				h.tb.Fatalf("guest %d did not hear guest %d", j, i)
			}
		}
	}
}

const (
	modern         = virtio.FeatureVersion1
	virtioIndirect = virtio.FeatureIndirect
)
