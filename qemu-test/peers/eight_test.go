package peers

import (
	"path/filepath"
	"testing"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// DPDK's back-end takes eight regions and no more. A pool of 256 MiB with holes
// in it, many more than that, goes there, and every buffer carries frames.
func TestAPoolFullOfHolesGoesIntoEightRegions(t *testing.T) {
	for _, c := range []struct {
		name string
		page uint64
	}{{"pages of 4 KiB", 0}, {"pages of 2 MiB", hugePage}} {
		t.Run(c.name, func(t *testing.T) {
			const frames = 1_000_000
			if c.page != 0 {
				// DPDK maps a file from its beginning, holes too, and the kernel
				// keeps a page ready for each of them.
				if err := ReserveHugepages(t, 200); err != nil {
					t.Skip("no hugepages:", err)
				}
			}
			socket := filepath.Join(shortDir(t), "a.sock")
			startNetVhost(t, "iface="+socket, 1)
			var pool *Rotation
			f := StartFront(t, FrontConfig{
				MAC: 1, Pairs: 1, Size: 256, Dial: socket, Page: c.page,
				Grow: func(f *Front) { f.riddle(t, 256<<20, c.page) },
				Send: func(f *Front, from vnet.Buffers) vnet.Buffers {
					s := f.Pool.Stats() // what is resident is for receiving
					pool = Rotate(from, s.Count-s.Resident)
					return pool
				},
			})
			exact, _ := f.Arena.Regions()
			if all := f.Pool.Stats(); exact <= 8 || all.Mapped < 256<<20 {
				t.Fatalf("a pool of %d bytes in %d runs: that proves nothing", all.Mapped, exact)
			}
			s := f.Link.Info().Share
			if s.Slots || s.Regions > 8 || s.Tables != 1 {
				t.Errorf("%d regions in %d tables, slots: %v", s.Regions, s.Tables, s.Slots)
			}
			buffers := uint64(pool.Len())
			streams(t, f, f, frames)
			if sent := f.Stats().Tx[0]; sent.Copied != 0 || sent.Frames < frames || frames < 2*buffers {
				t.Errorf("%d buffers were to carry frames, each some: %+v", buffers, sent)
			}
			t.Logf("%d runs in %d regions: %d KiB used, %d KiB shared, %d KiB wasted; %d buffers in turn",
				exact, s.Regions, s.Used>>10, s.Shared>>10, s.Waste()>>10, buffers)
		})
	}
}

// riddle grows the pool to so many bytes, with holes of all sizes in it.
func (f *Front) riddle(t *testing.T, size, page uint64) {
	t.Helper()
	other, err := f.Arena.Heap("holes", memfd.HeapOptions{Node: memfd.AnyNode})
	if err != nil {
		t.Fatal(err)
	}
	const unit, buffer = 2 << 20, 2048
	var holes []memtable.Buf
	for i := uint64(0); f.Pool.Stats().Mapped < size; i++ {
		if err := f.Pool.Grow(t.Context(), int(1+i%7)*unit/buffer); err != nil {
			t.Fatal(err)
		}
		hole, err := other.Alloc(t.Context(), (1+i*i%3)*unit-4096, 0)
		if err != nil {
			t.Fatal(err)
		}
		holes = append(holes, hole)
	}
	for _, h := range holes {
		if err := other.Free(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
}
