package vnet_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// A device that dies in the middle of a merged frame leaves its beginning behind.
// It is not taken for a part of what the next device sends.
func TestHalfAFrameEndsWithItsDevice(t *testing.T) {
	r := newRig(t, rigOptions{})
	w := r.worker(0, 100)
	w.turn(t.Context(), 10, 10)
	half := func(h []byte) { binary.LittleEndian.PutUint16(h[10:], 3) }
	r.dev.spoil.Store(&half)
	before := r.dev.sent.Load()
	w.send(1)
	eventually(t, "half a frame has come", func() bool { w.receive(); return r.dev.sent.Load() > before })
	r.dev.spoil.Store(nil)
	r.end()
	r.change(vnet.DeviceLost)
	r.serve()
	r.change(vnet.DeviceBack)
	w.settle(t)
	if s := r.Stats().Rx[0]; s.Bad != 0 || s.Lost != 1 {
		t.Errorf("%d frames were bad and %d were lost, want 0 and 1", s.Bad, s.Lost)
	}
}

// receiver is what a stub's device does with ring 0.
type receiver struct {
	r     *rig
	ring  virtio.Placement
	taken uint16
}

// use gives n buffers back as frames, of so many buffers the first one.
func (d *receiver) use(n, buffers int) {
	desc, avail := d.ring.Desc.VA.Bytes(uint64(d.ring.Desc.Cap)), d.ring.Avail.VA.Bytes(uint64(d.ring.Avail.Cap))
	used := d.ring.Used.VA.Bytes(uint64(d.ring.Used.Cap))
	for range n {
		i := d.taken % d.ring.Size
		id := binary.LittleEndian.Uint16(avail[4+2*i:])
		at := memtable.IOVA(binary.LittleEndian.Uint64(desc[16*int(id):]))
		va, found := d.r.arena.ByIOVA(nil).At(at, 100)
		if !found {
			d.r.t.Fatalf("a buffer at %#x, where nothing is", at)
		}
		header := va.Bytes(vnet.Headroom)
		clear(header)
		binary.LittleEndian.PutUint16(header[10:], uint16(buffers))
		buffers = 1
		binary.LittleEndian.PutUint32(used[4+8*int(i):], uint32(id))
		binary.LittleEndian.PutUint32(used[8+8*int(i):], 100)
		d.taken++
	}
	binary.LittleEndian.PutUint16(used[2:], d.taken)
}

// A burst that ends with frames in hand, after one that came in two parts, is
// followed by another without waiting for the device.
func TestNoFrameWaitsForTheOneAfterIt(t *testing.T) {
	s := newStub(vnet.FeatureMrgRxbuf)
	r := stubbed(t, s, rigOptions{})
	dev := &receiver{r: r, ring: s.placed(0)}
	in := make([]vnet.Frame, 8)
	receive := func(want int) {
		t.Helper()
		n := r.Rx(0).Receive(in)
		r.Rx(0).Release(in[:n])
		if n != want {
			t.Fatalf("%d buffers came, want %d", n, want)
		}
	}
	dev.use(1, 3)
	receive(0)
	dev.use(2+6, 1)
	receive(8)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ok(t, r.Rx(0).Wait(ctx))
	receive(1)
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	for err := error(nil); !errors.Is(err, context.DeadlineExceeded); err = r.Rx(0).Wait(soon) {
		ok(t, err)
		receive(0)
	}
}

// Who waits with a frame that needs more descriptors than there are waits for the
// device, and does not look again and again.
func TestAFrameOfManyPiecesWaitsForRoom(t *testing.T) {
	s := newStub(0)
	r := stubbed(t, s, rigOptions{driver: func(c *vnet.DriverConfig) { c.Size = 4 }})
	frames := func() []vnet.Frame {
		bufs, all := make([]memtable.Buf, 3), make([]vnet.Frame, 3)
		if r.Tx(0).Get(bufs) != 3 {
			t.Fatal("no buffers")
		}
		for i := range all {
			bufs[i].Len = 100
			all[i] = vnet.Frame{Buf: bufs[i], More: i < 2, Bare: i > 0}
		}
		return all
	}
	if n := r.Tx(0).SendFrames(frames()); n != 3 {
		t.Fatalf("%d pieces were sent", n)
	}
	second := frames()
	if n := r.Tx(0).SendFrames(second); n != 0 {
		t.Fatalf("%d pieces were sent into one descriptor", n)
	}
	for _, f := range second {
		r.Tx(0).Put([]memtable.Buf{f.Buf})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.Tx(0).Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the wait ends at once: %v", err)
	}
}
