package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(built.dir)
	os.Exit(code)
}

// Every way that DPDK's front-end can move frames over a split ring, through the
// switch, both ways at once: all arrive, each byte as it was sent.
func TestFramesArriveAsTheyWereSent(t *testing.T) {
	for _, c := range []struct {
		name     string
		road     road
		features []string
	}{
		{"mergeable", road{queues: 1, ring: 256, options: ",mrg_rxbuf=1,in_order=0"},
			[]string{"+mrg_rxbuf", "-in_order", "+version_1"}},
		{"not mergeable", road{queues: 1, ring: 256, options: ",mrg_rxbuf=0,in_order=0"},
			[]string{"-mrg_rxbuf", "-in_order"}},
		{"in order", road{queues: 1, ring: 256, options: ",mrg_rxbuf=1,in_order=1"},
			[]string{"+mrg_rxbuf", "+in_order"}},
		{"in order, not mergeable", road{queues: 1, ring: 256, options: ",mrg_rxbuf=0,in_order=1"},
			[]string{"-mrg_rxbuf", "+in_order"}},
		{"vectorised", road{queues: 1, ring: 256, options: ",mrg_rxbuf=0,in_order=1,vectorized=1"},
			[]string{"-mrg_rxbuf", "+in_order"}},
		{"long ring", road{queues: 1, ring: 1024, options: ",mrg_rxbuf=1,in_order=0"}, nil},
		{"four pairs", road{queues: 4, ring: 256, options: ",mrg_rxbuf=1,in_order=0"},
			[]string{"+mq"}},
		{"two processes", road{queues: 1, ring: 256, options: ",mrg_rxbuf=1,in_order=0", split: true}, nil},
		{"testpmd listens", road{queues: 1, ring: 256, options: ",mrg_rxbuf=1,in_order=0", server: true}, nil},
		{"hugepages", road{queues: 1, ring: 256, options: ",mrg_rxbuf=1,in_order=0", huge: true}, nil},
		{"frames over many buffers", road{queues: 1, ring: 1024, options: ",mrg_rxbuf=1,in_order=0", largest: 9000},
			[]string{"+mrg_rxbuf"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.road
			if r.largest == 0 {
				r.largest = 1514
			}
			if r.huge {
				if err := ReserveHugepages(t, 48); err != nil {
					t.Skip("no hugepages:", err)
				}
			}
			v, a, b := r.vhostd(t)
			r.before = func() {
				r.awaitRunning(v)
				for _, port := range []string{"a", "b"} {
					q := v.Queues(port)
					CheckFeatures(t, q.Features.Names, c.features...)
					for _, ring := range q.Rings {
						if ring.Started && int(ring.Size) != r.ring {
							t.Errorf("port %s, %s has %d descriptors, want %d", port, ring.Name, ring.Size, r.ring)
						}
					}
					pages := v.PageSizes(port)
					if got := slices.Contains(pages, 2<<20); got != r.huge {
						t.Errorf("port %s shares pages of %d bytes; are hugepages among them? want %v", port, pages, r.huge)
					}
				}
			}
			r.deliver(t, a, b)
			for _, port := range []string{"a", "b"} {
				if drops := v.Stats(port).Drops; len(drops) > 0 {
					t.Errorf("port %s dropped %v", port, drops)
				}
			}
		})
	}
}

// vhostd starts a switch of two ports for the road.
func (r road) vhostd(t *testing.T) (v *Vhostd, a, b string) {
	t.Helper()
	dir := shortDir(t)
	a, b = filepath.Join(dir, "a.sock"), filepath.Join(dir, "b.sock")
	return r.vhostdAt(t, a, b), a, b
}

func (r road) vhostdAt(t *testing.T, a, b string) *Vhostd {
	t.Helper()
	mode := "server"
	if r.server {
		mode = "client"
	}
	const net = "%s=%s,mode=%s,queues=%d"
	return StartVhostd(t, fmt.Sprintf(net, "a", a, mode, r.queues), fmt.Sprintf(net, "b", b, mode, r.queues))
}

// awaitRunning waits until all rings of both ports are started and enabled.
func (r road) awaitRunning(v *Vhostd) {
	v.t.Helper()
	for _, port := range []string{"a", "b"} {
		v.Await("the rings of port "+port, func() bool { return v.Running(port, 2*r.queues) })
	}
}
