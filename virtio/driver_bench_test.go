package virtio_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// turn is a burst's way: lent, seen by the device, taken back.
func (b *bus) turn(dev *station, bufs, back []memtable.Buf, d virtio.Dir) bool {
	b.q.AddBurst(bufs, d)
	b.q.Publish()
	b.q.Kick()
	dev.serve(len(bufs), d, 0)
	return b.q.Reap(back) == len(bufs)
}

// TestAMillionBuffersAllocateNothing, on their way to the device and back.
func TestAMillionBuffersAllocateNothing(t *testing.T) {
	const burst, limit = 32, 100
	bursts := 1_000_000 / burst
	if testing.Short() || raceEnabled {
		bursts /= 20
	}
	for _, f := range []virtio.Features{0, inOrder | eventIdx} {
		b := newBus(t, busOptions{size: 256, features: f, bytes: 64 * 2048})
		dev := b.device()
		bufs, back := b.bufs(t, burst, 1500, 0), make([]memtable.Buf, burst)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range bursts {
			if !b.turn(dev, bufs, back, virtio.Writable) {
				t.Fatal(b.q.Err())
			}
		}
		runtime.ReadMemStats(&after)
		if n := after.Mallocs - before.Mallocs; n > limit {
			t.Errorf("features %v: %d allocations", f.Names(virtio.Net), n)
		}
	}
}

// TestChainsAllocateNothing, indirect or not.
func TestChainsAllocateNothing(t *testing.T) {
	for _, f := range []virtio.Features{0, indirect} {
		b := newBus(t, busOptions{size: 64, features: f, slots: 4, bytes: 4096})
		dev := b.device()
		bufs, back := b.bufs(t, 3, 64, 0), make([]memtable.Buf, 4)
		n := testing.AllocsPerRun(100, func() {
			for range 4 {
				if err := b.q.Add(bufs[:2], bufs[2:], 1); err != nil {
					t.Fatal(err)
				}
			}
			b.q.Publish()
			dev.serve(4, virtio.Both, 0)
			if b.q.Reap(back) != 4 {
				t.Fatal(b.q.Err())
			}
		})
		if n != 0 {
			t.Errorf("features %v: %v allocations", f.Names(virtio.Net), n)
		}
	}
}

// BenchmarkDriverBurst is a burst of 32 buffers from the driver to the device and
// back, in one core's caches; ns/buffer counts both sides.
func BenchmarkDriverBurst(b *testing.B) {
	const burst = 32
	for name, f := range map[string]virtio.Features{"plain": 0, "in_order,event_idx": inOrder | eventIdx} {
		for _, d := range []virtio.Dir{virtio.Readable, virtio.Writable} {
			b.Run(fmt.Sprintf("%s/%v", name, map[virtio.Dir]string{virtio.Readable: "out", virtio.Writable: "in"}[d]), func(b *testing.B) {
				bus := newBus(b, busOptions{size: 256, features: f, bytes: 64 * 2048})
				dev := bus.device()
				bufs, back := bus.bufs(b, burst, 1500, 0), make([]memtable.Buf, burst)
				for b.Loop() {
					if !bus.turn(dev, bufs, back, d) {
						b.Fatal(bus.q.Err())
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/burst, "ns/buffer")
			})
		}
	}
}

// BenchmarkDriverAlone is the driver's part of that: what the device would write
// is there already, but for the index.
func BenchmarkDriverAlone(b *testing.B) {
	const burst = 32
	for name, f := range map[string]virtio.Features{"plain": 0, "in_order": inOrder} {
		b.Run(name, func(b *testing.B) {
			bus := newBus(b, busOptions{size: burst, features: f, bytes: 64 * 2048})
			bufs, back := bus.bufs(b, burst, 1500, 0), make([]memtable.Buf, burst)
			device := &paper{Ring: bus.ring()}
			for id := range uint32(burst) { // the descriptors come round in this order
				device.uses(id, 1500)
			}
			device.shows(0)
			for b.Loop() {
				bus.q.AddBurst(bufs, virtio.Writable)
				bus.q.Publish()
				device.shows(device.idx + burst)
				if bus.q.Reap(back) != burst {
					b.Fatal(bus.q.Err())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/burst, "ns/buffer")
		})
	}
}
