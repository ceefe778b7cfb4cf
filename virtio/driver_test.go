package virtio_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// lend adds a burst, and the test fails if not all of it has room.
func (b *bus) lend(tb testing.TB, bufs []memtable.Buf, d virtio.Dir) {
	tb.Helper()
	if n := b.q.AddBurst(bufs, d); n != len(bufs) {
		tb.Fatalf("%d of %d buffers were added: %v", n, len(bufs), b.q.Err())
	}
	b.q.Publish()
}

// reap takes back up to n.
func (b *bus) reap(tb testing.TB, n int) []memtable.Buf {
	tb.Helper()
	back := make([]memtable.Buf, n)
	back = back[:b.q.Reap(back)]
	if err := b.q.Err(); err != nil {
		tb.Fatal(err)
	}
	return back
}

// TestBuffersComeBackAsTheyWereLent, with what the device wrote in Len, from
// rings of every size, also over the wrap of the indices.
func TestBuffersComeBackAsTheyWereLent(t *testing.T) {
	for size := uint16(1); size != 0 && size <= virtio.MaxSize; size <<= 1 {
		b := newBus(t, busOptions{size: size, start: 0xffff, bytes: 64 * 64})
		dev := b.device()
		bufs := b.bufs(t, min(int(size), 48), 32, 100)
		for turn := range 5 {
			b.lend(t, bufs, virtio.Writable)
			if b.q.Lent() != len(bufs) || b.q.Room() != int(size)-len(bufs) {
				t.Fatalf("size %d: %d are lent, %d have room", size, b.q.Lent(), b.q.Room())
			}
			if n := dev.serve(64, virtio.Writable, uint32(turn)); n != len(bufs) {
				t.Fatalf("size %d: the device takes %d of %d", size, n, len(bufs))
			}
			back := b.reap(t, int(size)+1)
			for i := range back {
				want := bufs[i]
				if want.Len = 32 - uint32(turn); back[i] != want {
					t.Fatalf("size %d: %+v came back, want %+v", size, back[i], want)
				}
			}
			if len(back) != len(bufs) || b.q.Lent() != 0 {
				t.Fatalf("size %d: %d of %d came back, %d are lent", size, len(back), len(bufs), b.q.Lent())
			}
		}
	}
}

// TestTheDeviceReadsLenAndWritesCap of the buffers it is lent.
func TestTheDeviceReadsLenAndWritesCap(t *testing.T) {
	b := newBus(t, busOptions{size: 4, bytes: 4096})
	dev := b.device()
	buf := b.bufs(t, 1, 64, 1)
	buf[0].Len = 3
	copy(buf[0].VA.Bytes(64), "seen, but no more")
	b.lend(t, buf, virtio.Readable)
	if dev.serve(1, virtio.Readable, 0); dev.b.Elem[0].Total != 3 {
		t.Errorf("the device reads %d bytes, want 3", dev.b.Elem[0].Total)
	}
	if back := b.reap(t, 1); back[0].Len != 0 {
		t.Errorf("Len is %d, but the device wrote nothing", back[0].Len)
	}
	b.lend(t, buf, virtio.Writable)
	if dev.serve(1, virtio.Writable, 0); dev.b.Elem[0].Total != 64 {
		t.Errorf("the device writes %d bytes, want 64", dev.b.Elem[0].Total)
	}
}

// TestAChainIsRefusedWhole where there is no room for it, and nothing changes.
func TestAChainIsRefusedWhole(t *testing.T) {
	b := newBus(t, busOptions{size: 4, bytes: 4096})
	bufs := b.bufs(t, 5, 16, 0)
	if err := b.q.Add(bufs[:3], nil, 7); err != nil {
		t.Fatal(err)
	}
	if err := b.q.Add(bufs[:1], bufs[1:2], 8); !errors.Is(err, virtio.ErrFull) || b.q.Room() != 1 || b.q.Lent() != 1 {
		t.Errorf("two buffers for one descriptor: %v, room %d, lent %d", err, b.q.Room(), b.q.Lent())
	}
	huge := slices.Clone(bufs[:2])
	huge[0].Cap, huge[1].Cap = 1<<31, 1<<31
	for name, in := range map[string][]memtable.Buf{"empty": nil, "longer than the ring": bufs, "4 GiB": huge} {
		if err := b.q.Add(nil, in, 9); !errors.Is(err, virtio.ErrChain) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := b.q.AddBurst(bufs, virtio.Readable); n != 1 {
		t.Errorf("%d of 5 buffers were added to one descriptor", n)
	}
}

// TestAnIndirectChainTakesOneDescriptor, if its table has room for it.
func TestAnIndirectChainTakesOneDescriptor(t *testing.T) {
	b := newBus(t, busOptions{size: 8, features: virtio.FeatureIndirect, slots: 3, bytes: 4096})
	dev := b.device()
	bufs := b.bufs(t, 4, 16, 0)
	for n, want := range map[int]int{1: 1, 3: 1, 4: 4} {
		if err := b.q.Add(bufs[:1], bufs[1:n], uint64(n)); err != nil {
			t.Fatal(err)
		}
		if took := 8 - b.q.Room(); took != want {
			t.Errorf("%d buffers take %d descriptors, want %d", n, took, want)
		}
		b.q.Publish()
		if dev.serve(1, virtio.Both, 0); int(dev.b.Elem[0].Segs) != n || dev.b.Readable(0) != 1 {
			t.Errorf("%d buffers: the device sees %d, %d to read", n, dev.b.Elem[0].Segs, dev.b.Readable(0))
		}
		if back := b.reap(t, 2); len(back) != 1 || back[0].Token != uint64(n) || !back[0].VA.IsNil() || back[0].Cap != uint32(16*(n-1)) {
			t.Errorf("%+v came back", back)
		}
	}
}
