package fabric

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/vhost/vhosttest"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// byHand is a Runner whose jobs the benchmark serves itself: what is measured
// is a turn, without kicks, calls and the scheduler.
type byHand struct {
	domain *memtable.Domain
	mu     sync.Mutex
	jobs   map[*vhost.Job]bool
}

func (r *byHand) Domain() *memtable.Domain { return r.domain }
func (r *byHand) Wake(*vhost.Job)          {}

func (r *byHand) Attach(j *vhost.Job) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.jobs[j] = true
	return nil
}

func (r *byHand) Detach(_ context.Context, j *vhost.Job) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.jobs, j)
	return nil
}

// BenchmarkForward is the cost of one frame from guest to guest, all in this
// core's caches, the guests' own work included: they copy the frame twice more.
func BenchmarkForward(b *testing.B) {
	for _, o := range [...]struct {
		name string
		o    vhosttest.Options
	}{
		{"plain", vhosttest.Options{Features: modern | virtio.FeatureInOrder}},
		{"mergeable", vhosttest.Options{Features: modern | virtio.FeatureInOrder | vnet.FeatureMrgRxbuf}},
		{"indirect", vhosttest.Options{Features: modern | virtio.FeatureIndirect, Indirect: true}},
	} {
		for _, size := range []int{64, 1500} {
			b.Run(fmt.Sprintf("%s/%d", o.name, size), func(b *testing.B) { forwardBench(b, o.o, size) })
		}
	}
}

// plugByHand makes a switch with n ports, a guest at each, served by hand.
func plugByHand(tb testing.TB, n int, o vhosttest.Options) (guests []*vhosttest.Guest, serve func()) {
	tb.Helper()
	sw := New("by hand", Options{})
	r := &byHand{domain: sw.Domain(), jobs: make(map[*vhost.Job]bool)}
	ctx, cancel := context.WithCancel(context.Background())
	tb.Cleanup(cancel)
	for i := range n {
		p, err := sw.AddPort(PortOptions{Name: fmt.Sprint(i)})
		if err != nil {
			tb.Fatal(err)
		}
		path := filepath.Join(tb.TempDir(), "s")
		l, err := vhost.Listen(path, vhost.ListenOptions{UID: -1, GID: -1})
		if err != nil {
			tb.Fatal(err)
		}
		go func() { _ = (&vhost.Server{Device: p, Runner: r}).Serve(ctx, l) }()
		guests = append(guests, vhosttest.Plug(tb, path, o))
	}
	memtable.Faults()
	reader := sw.Domain().Join("by hand")
	tb.Cleanup(reader.Close)
	return guests, func() {
		for j := range r.jobs {
			j.Serve(reader)
		}
	}
}

func forwardBench(b *testing.B, o vhosttest.Options, size int) {
	o.Poll = true
	guests, serve := plugByHand(b, 2, o)
	tx, rx := guests[0].Pairs[0].TX, guests[1].Pairs[0].RX
	guests[1].Pairs[0].TX.Add(vnet.Header{}, vhosttest.Frame(broadcast, address(1), 60, 0))
	guests[1].Pairs[0].TX.Publish()
	serve()
	frame := vhosttest.Frame(address(1), address(0), size, 0)
	var buf [4096]byte
	b.SetBytes(int64(size))
	b.ResetTimer()
	for n := 0; n < b.N; n += burst {
		for range burst {
			tx.Add(vnet.Header{}, frame)
		}
		tx.Publish()
		serve()
		for range burst {
			if _, got := rx.Next(buf[:]); got != size {
				b.Fatalf("a frame of %d bytes arrived as %d", size, got)
			}
		}
	}
}
