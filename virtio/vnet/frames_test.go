package vnet_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// offloads of both directions.
const offloads = vnet.FeatureCSUM | vnet.FeatureHostTSO4 | vnet.FeatureGuestCSUM | vnet.FeatureGuestTSO4

// pieces cuts data into buffers of the worker's cache; the first has headroom
// unless bare.
func (w *worker) pieces(data []byte, bare bool) (frames []vnet.Frame) {
	one := make([]memtable.Buf, 1)
	for len(data) > 0 {
		if w.r.Tx(w.pair).Get(one) != 1 {
			w.r.t.Fatal("no buffers")
		}
		f := vnet.Frame{Buf: one[0], Bare: bare || len(frames) > 0, More: true}
		f.Len = f.Cap
		n := copy(f.Data(), data)
		f.Len -= uint32(len(f.Data()) - n)
		data = data[n:]
		frames = append(frames, f)
	}
	frames[len(frames)-1].More = false
	return frames
}

// whole receives one frame, and gives its data, header and number of buffers.
func (w *worker) whole() (data []byte, h vnet.Header, pieces int) {
	w.r.t.Helper()
	eventually(w.r.t, "a frame arrives", func() bool {
		pieces = w.r.Rx(w.pair).Receive(w.in)
		return pieces > 0
	})
	for i := range w.in[:pieces] {
		if w.in[i].More != (i+1 < pieces) || w.in[i].Bare != (i > 0) {
			w.r.t.Errorf("piece %d of %d: more %v, bare %v", i, pieces, w.in[i].More, w.in[i].Bare)
		}
		data = append(data, w.in[i].Data()...)
	}
	return data, w.in[0].Header, pieces
}

// Large segments go out in chains, come back in merged buffers, and go out again
// as they came.
func TestSegmentsTravelInSeveralBuffers(t *testing.T) {
	ring := map[string]virtio.Features{"indirect": virtio.FeatureIndirect, "direct": 0}
	for name, f := range ring {
		for _, bare := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, bare %v", name, bare), func(t *testing.T) {
				f := f | offloads | vnet.FeatureMrgRxbuf
				r := newRig(t, rigOptions{buffer: 4096, driver: func(c *vnet.DriverConfig) { c.Features, c.Need = f, f }})
				w := r.worker(0, 0)
				h := vnet.Header{
					Flags: vnet.NeedsCsum, GSOType: vnet.GSOTCPv4, HdrLen: 54, GSOSize: 1448, CsumStart: 34, CsumOffset: 16,
				}
				for _, size := range []int{54, 4000, 4084, 4085, 4096, 20000, 65000} {
					data := make([]byte, size)
					for i := range data {
						data[i] = byte(i * 7 / 3)
					}
					frames := w.pieces(data, bare)
					frames[0].Header = h
					if n := r.Tx(0).SendFrames(frames); n != len(frames) {
						t.Fatalf("%d of %d pieces were sent", n, len(frames))
					}
					for range 2 {
						got, header, pieces := w.whole()
						want := h
						want.NumBuffers = uint16(pieces)
						if !bytes.Equal(got, data) || header != want {
							t.Fatalf("%d bytes came back as %d with %+v", size, len(got), header)
						}
						if n := r.Tx(0).SendFrames(w.in[:pieces]); n != pieces {
							t.Fatalf("%d of %d pieces were sent on", n, pieces)
						}
					}
					_, _, pieces := w.whole()
					r.Rx(0).Release(w.in[:pieces])
				}
				if s := r.Stats(); s.Tx[0].Refused != 0 || s.Tx[0].Frames != 21 || r.dev.dropped.Load() != 0 {
					t.Errorf("%+v, the device dropped %d", s.Tx[0], r.dev.dropped.Load())
				}
			})
		}
	}
}

// What the device was not promised, and what is no frame, never reaches it.
func TestFramesThatNobodyCanSendAreDropped(t *testing.T) {
	r := newRig(t, rigOptions{driver: func(c *vnet.DriverConfig) { c.Features = vnet.FeatureMrgRxbuf | vnet.FeatureMTU }})
	w := r.worker(0, 0)
	csum := vnet.Header{Flags: vnet.NeedsCsum, CsumStart: 14}
	frame := func(size int, change func(f []vnet.Frame)) []vnet.Frame {
		f := w.pieces(make([]byte, size), false)
		change(f)
		return f
	}
	all := [][]vnet.Frame{
		frame(100, func(f []vnet.Frame) { f[0].Header = csum }),
		frame(13, func([]vnet.Frame) {}),
		frame(100, func(f []vnet.Frame) { f[0].Len = f[0].Cap + 1 }),
		frame(100, func(f []vnet.Frame) { f[0].More = true }),
		frame(4000, func(f []vnet.Frame) { f[1].Len = 0 }),
		frame(9019, func([]vnet.Frame) {}), // MTU 9000, and 14 and 4 bytes before
	}
	for i, f := range all {
		if n := r.Tx(0).SendFrames(f); n != len(f) || r.Stats().Tx[0].Refused != uint64(i+1) {
			t.Errorf("frame %d: %d of %d pieces, %+v", i, n, len(f), r.Stats().Tx[0])
		}
	}
	short := make([]memtable.Buf, 1)
	w.r.Tx(w.pair).Get(short)
	short[0].Len = vnet.Headroom + 13
	if n := r.Tx(0).Send(short); n != 1 || r.Stats().Tx[0].Refused != uint64(len(all)+1) {
		t.Errorf("a frame of 13 bytes: %d, %+v", n, r.Stats().Tx[0])
	}
	w.size = 100
	w.turn(t.Context(), 10, 10)
	if n := r.dev.seen.Load(); n != 10 {
		t.Errorf("the device saw %d frames, want 10", n)
	}
}

// A frame in memory that the device cannot reach arrives as a copy.
func TestMemoryThatIsNotSharedIsCopied(t *testing.T) {
	r := newRig(t, rigOptions{})
	private, err := r.arena.Heap("private", memfd.HeapOptions{Node: memfd.AnyNode})
	ok(t, err)
	b, err := private.Alloc(t.Context(), 2048, 64)
	ok(t, err)
	w := r.worker(0, 500)
	if !vnet.Load(&b, w.frame(0)) {
		t.Fatal("it does not fit")
	}
	lent := r.pool.Stats().Lent
	w.next = 1
	if n := r.Tx(0).Send([]memtable.Buf{b}); n != 1 {
		t.Fatal("it was not sent")
	}
	eventually(t, "the frame comes back", func() bool { return w.receive() == 1 })
	r.Tx(0).Reap()
	if s := r.Stats().Tx[0]; s.Copied != 1 || s.Frames != 1 {
		t.Errorf("%+v", s)
	}
	// The pool was given what is not its own, and did not take it.
	r.refused = 1
	if s := r.pool.Stats(); s.Refused != 1 || s.Lent > lent+1 {
		t.Errorf("%+v", s)
	}
	ok(t, private.Free(b))
	ok(t, private.Close())
}

// Buffers that the specification calls too short are refused at once, with advice.
func TestOpenRefusesBuffersThatAreTooShort(t *testing.T) {
	for name, c := range map[string]struct {
		f      virtio.Features
		buffer uint32
	}{
		"no frame fits":   {0, 1525},
		"no segment fits": {vnet.FeatureGuestCSUM | vnet.FeatureGuestTSO4, 65561},
	} {
		t.Run(name, func(t *testing.T) {
			r := bareRig(t, rigOptions{pairs: 1, buffer: c.buffer, count: 128, protocol: 1})
			cfg := r.config()
			cfg.Features = c.f | virtio.FeatureVersion1
			d, err := vnet.Open(t.Context(), cfg)
			if err == nil {
				_ = d.Close(context.Background())
				t.Fatal("opened")
			}
			t.Log(err)
		})
	}
}

// Without MRG_RXBUF buffers of 64 KiB take whole segments.
func TestSegmentsTravelInOneLargeBuffer(t *testing.T) {
	f := offloads | virtio.FeatureIndirect
	r := newRig(t, rigOptions{buffer: 65600, count: 600, driver: func(c *vnet.DriverConfig) { c.Features, c.Need, c.Size = f, f, 128 }})
	w := r.worker(0, 0)
	data := bytes.Repeat([]byte("segments "), 7000)
	frames := w.pieces(data, false)
	frames[0].Header = vnet.Header{Flags: vnet.NeedsCsum, GSOType: vnet.GSOTCPv4, GSOSize: 1448, CsumStart: 34, CsumOffset: 16}
	r.Tx(0).SendFrames(frames)
	got, h, pieces := w.whole()
	if pieces != 1 || h.GSOSize != 1448 || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back as %d in %d pieces, %+v", len(data), len(got), pieces, h)
	}
	r.Rx(0).Release(w.in[:pieces])
}

// A frame of more pieces than the caller has room for is dropped, and nothing else.
func TestAFrameThatDoesNotFitTheBurstIsDropped(t *testing.T) {
	f := offloads | vnet.FeatureMrgRxbuf | virtio.FeatureIndirect
	r := newRig(t, rigOptions{driver: func(c *vnet.DriverConfig) { c.Features = f }})
	w := r.worker(0, 0)
	h := vnet.Header{Flags: vnet.NeedsCsum, GSOType: vnet.GSOTCPv4, GSOSize: 1448, CsumStart: 34, CsumOffset: 16}
	for _, size := range []int{100, 10000, 200} {
		frames := w.pieces(make([]byte, size), false)
		frames[0].Header = h
		r.Tx(0).SendFrames(frames)
	}
	eventually(t, "all are there", func() bool { return r.dev.sent.Load() == 3 })
	var got []int
	for range 3 {
		n := r.Rx(0).Receive(w.in[:2])
		for i := range w.in[:n] {
			got = append(got, len(w.in[i].Data()))
		}
		r.Rx(0).Release(w.in[:n])
	}
	if fmt.Sprint(got) != "[100 200]" || r.Stats().Rx[0].TooLong != 1 {
		t.Errorf("frames of %v arrived, %+v", got, r.Stats().Rx[0])
	}
}
