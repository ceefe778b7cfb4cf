package memfd

import (
	"fmt"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

// warm is a heap whose memory is there and stays.
func warm(t testing.TB, size uint64) *Heap {
	a := opened(t, linux{}, Options{Name: "test", NoHuge: true, Space: 256 << 20, Linger: -1})
	h, err := a.Heap("test", HeapOptions{Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	freed(t, h, lend(t, h, size, 0))
	return h
}

// round lends as many buffers as it has room for, of several sizes, and frees
// them in another order.
func round(t testing.TB, h *Heap, room []memtable.Buf) {
	for i := range room {
		var err error
		if room[i], err = h.Alloc(t.Context(), uint64(64+i%7*100), uint64(64<<(i%3))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range room {
		if err := h.Free(room[(i*7+3)%len(room)]); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSteadyUseOfAHeapMakesNoGarbage(t *testing.T) {
	h := warm(t, 8<<20)
	room := make([]memtable.Buf, 100)
	if n := testing.AllocsPerRun(100, func() { round(t, h, room) }); n != 0 {
		t.Errorf("%v allocations for %d buffers", n, len(room))
	}
	if n := testing.AllocsPerRun(100, func() { freed(t, h, lend(t, h, 4<<20, 0)) }); n != 0 {
		t.Errorf("%v allocations for whole extents", n)
	}
}

// BenchmarkHeap lends and frees one buffer at a time, among a thousand others
// that stay.
func BenchmarkHeap(b *testing.B) {
	for _, workers := range []int{1, 2} {
		for _, size := range []uint64{64, 1 << 10, 64 << 10, 2 << 20} {
			b.Run(fmt.Sprintf("%s/%dx", bytesText(size), workers), func(b *testing.B) {
				h := warm(b, 64<<20)
				var stay []memtable.Buf
				for i := range 1000 {
					stay = append(stay, lend(b, h, uint64(64+i*8), 0))
				}
				for i := 0; i < len(stay); i += 2 {
					freed(b, h, stay[i]) // holes of all sizes
				}
				b.ReportAllocs()
				b.ResetTimer()
				var all sync.WaitGroup
				for range workers {
					all.Go(func() {
						for range b.N / workers {
							buf, err := h.Alloc(b.Context(), size, 0)
							if err == nil {
								err = h.Free(buf)
							}
							if err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
				b.StopTimer()
				for i := 1; i < len(stay); i += 2 {
					freed(b, h, stay[i])
				}
			})
		}
	}
}
