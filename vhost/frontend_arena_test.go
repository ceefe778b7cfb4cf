package vhost

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// arenaDriver is a driver's queue in an arena, over a Frontend.
type arenaDriver struct {
	f    *Frontend
	q    *virtio.DriverQueue
	line virtio.Line
	ring memtable.Buf
	bufs []memtable.Buf
}

// newArenaDriver starts a ring of 64 in memory from heap.
func newArenaDriver(t *testing.T, f *Frontend, a *memfd.Arena, heap *memfd.Heap) *arenaDriver {
	t.Helper()
	const size = 64
	mem, err := heap.Alloc(t.Context(), virtio.RingBytes(size), 64)
	ok(t, err)
	p, err := virtio.PlaceRing(mem, size)
	ok(t, err)
	d := &arenaDriver{f: f, ring: mem}
	d.q, err = virtio.NewDriverQueue(virtio.DriverOptions{Features: virtio.FeatureVersion1, Placement: p, Memory: a})
	ok(t, err)
	d.q.Reset()
	for range size / 2 {
		b, err := heap.Alloc(t.Context(), 64, 64)
		ok(t, err)
		d.bufs = append(d.bufs, b)
	}
	d.line, err = f.Connect(t.Context(), 0, d.q.Where())
	ok(t, err)
	d.q.Connect(d.line)
	ok(t, f.Start(t.Context()))
	return d
}

// round lends all buffers and waits until all are back, filled.
func (d *arenaDriver) round(t *testing.T) {
	t.Helper()
	n := d.q.AddBurst(d.bufs, virtio.Writable)
	d.q.Publish()
	d.q.Kick()
	back := make([]memtable.Buf, n)
	for got := 0; got < n; {
		k := d.q.Reap(back[got:])
		if got += k; k > 0 || d.q.Arm() {
			continue
		}
		if err := d.line.Wait(t.Context()); err != nil {
			t.Fatalf("%d of %d came back: %v", got, n, err)
		}
	}
	ok(t, d.q.Err())
	for _, b := range back {
		if b.Len != 64 || b.VA.Bytes(64)[63] != 0xaa {
			t.Fatalf("a buffer came back with %d bytes, the last %#x", b.Len, b.VA.Bytes(64)[63])
		}
	}
	copy(d.bufs, back)
}

// The arena grows and shrinks under traffic: with slots nobody notices, and
// what is shared is what is in use, no more.
func TestFrontendAnArenaGrowsAndShrinksUnderTraffic(t *testing.T) {
	noLeaks(t)
	const extent = 64 << 10
	a, err := memfd.New(memfd.Options{NoHuge: true, Space: 64 << 20, Extent: extent, Linger: time.Millisecond})
	ok(t, err)
	defer func() { ok(t, a.Close()) }()
	rings, err := a.Heap("rings", memfd.HeapOptions{Shared: true, Node: memfd.AnyNode})
	ok(t, err)
	private, err := a.Heap("private", memfd.HeapOptions{Node: memfd.AnyNode})
	ok(t, err)
	f, err := Dial(t.Context(), listenAndServe(t, &Server{Device: newFiller(twoRings)}),
		FrontendConfig{Device: virtio.Entropy, Memory: a, Timeout: testTimeout})
	ok(t, err)
	defer func() { ok(t, f.Close()) }()
	ok(t, f.Accept(t.Context(), virtio.FeatureVersion1))
	f.SetPauser(pauser{func(context.Context) error { t.Error("traffic was paused"); return nil }, func() {}})
	d := newArenaDriver(t, f, a, rings)
	secret, err := private.Alloc(t.Context(), 3*extent, 64)
	ok(t, err)
	for range 20 {
		grown, err := rings.Alloc(t.Context(), 2*extent, 64)
		ok(t, err)
		if !f.Shares(grown.Addr, uint64(grown.Cap)) && !f.Shares(grown.Addr, 64) {
			t.Fatal("memory was handed out that the back-end cannot reach")
		}
		d.bufs = append(d.bufs, memtable.Buf{VA: grown.VA, Addr: grown.Addr, Len: 64, Cap: 64})
		d.round(t)
		d.bufs = slices.DeleteFunc(d.bufs, func(b memtable.Buf) bool { return b.VA == grown.VA })
		ok(t, rings.Free(grown))
		d.round(t)
	}
	if f.Shares(secret.Addr, 1) {
		t.Error("private memory is shared")
	}
	ok(t, private.Free(secret))
	eventually(t, "what is free is not shared", func() bool {
		d.round(t)
		i := f.Info().Share
		return i.Rems > 0 && i.Used == extent && i.Waste() == 0 && i.Pauses == 0
	})
	ok(t, f.Close())
	for _, b := range d.bufs {
		ok(t, rings.Free(b))
	}
	ok(t, rings.Free(d.ring))
}
