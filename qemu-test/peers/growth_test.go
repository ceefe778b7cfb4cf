package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// Variables of the environment for longer runs (make test-long).
const (
	roundsVar = "PEERS_TEST_ROUNDS"
	killsVar  = "PEERS_TEST_KILLS"
)

// times says how often to do something: what the variable says, or so often.
func times(t *testing.T, variable string, n int) int {
	t.Helper()
	if text := os.Getenv(variable); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(variable, err)
		}
	}
	return n
}

// Memory grows and shrinks by a huge page, over and over, while numbered frames
// go through old and new pages alike. With slots a page costs two messages and
// nobody notices; without them each change is one table, which traffic waits
// for. Nothing is lost, no queue is disabled, and every page comes back.
func TestMemoryGrowsAndShrinksUnderTraffic(t *testing.T) {
	const withoutSlots = ^vhost.ProtocolMemSlots
	t.Run("the daemon", func(t *testing.T) {
		a, b := throughTheDaemon(t, 0)
		growAndShrink(t, a, b, times(t, roundsVar, 300), "ADD_MEM_REG", "REM_MEM_REG")
	})
	t.Run("the daemon without slots", func(t *testing.T) {
		a, b := throughTheDaemon(t, withoutSlots)
		growAndShrink(t, a, b, times(t, roundsVar, 300), "SET_MEM_TABLE", "SET_MEM_TABLE")
	})
	t.Run("testpmd", func(t *testing.T) {
		needHugepages(t)
		socket := filepath.Join(shortDir(t), "a.sock")
		startNetVhost(t, "iface="+socket, 1)
		a := StartFront(t, FrontConfig{MAC: 1, Pairs: 1, Size: 256, Dial: socket, Page: hugePage, Send: byHalves})
		growAndShrink(t, a, a, times(t, roundsVar, 100), "SET_MEM_TABLE", "SET_MEM_TABLE")
	})
}

// halves takes every other burst from the buffers that stay, and the others from
// those that came last.
type halves struct {
	old   *memfd.Cache
	young vnet.Buffers
	turn  atomic.Uint32
}

func byHalves(f *Front, young vnet.Buffers) vnet.Buffers {
	return &halves{old: f.Pool.ResidentCache(), young: young}
}

// Get implements vnet.Buffers.
func (h *halves) Get(dst []memtable.Buf) int {
	if h.turn.Add(1)%2 == 0 {
		return h.old.Get(dst)
	}
	return h.young.Get(dst)
}

// Put implements vnet.Buffers: what does not stay goes on to the pool.
func (h *halves) Put(src []memtable.Buf) { h.old.Put(src) }

// Close gives back what is kept.
func (h *halves) Close() { h.old.Close() }

func needHugepages(t *testing.T) {
	t.Helper()
	if err := ReserveHugepages(t, 16); err != nil {
		t.Skip("no hugepages:", err)
	}
}

// throughTheDaemon gives two front-ends with a switch between them, the first
// one on huge pages.
func throughTheDaemon(t *testing.T, p vhost.ProtocolFeatures) (a, b *Front) {
	t.Helper()
	needHugepages(t)
	r := road{queues: 1}
	v, pa, pb := r.vhostd(t)
	a = StartFront(t, FrontConfig{MAC: 1, Dial: pa, Pairs: 1, Size: 256, Page: hugePage, Protocol: p, Send: byHalves})
	b = StartFront(t, FrontConfig{MAC: 2, Dial: pb, Pairs: 1, Size: 256})
	r.awaitRunning(v)
	streams(t, a, b, 32) // each is heard of
	streams(t, b, a, 32)
	return a, b
}

// growAndShrink has traffic from a to b, by itself and then while a grows and
// shrinks. Each round is to cost these two messages and no others.
func growAndShrink(t *testing.T, a, b *Front, rounds int, grow, shrink string) {
	t.Helper()
	g := &growth{t: t, f: a}
	unwatch, err := a.Arena.Watch(g.hear)
	if err != nil {
		t.Fatal(err)
	}
	defer unwatch()
	s := &Stream{From: a, To: b, Window: 64, Inspect: g.inspect}
	alone, _ := under(t, s, func() { await(t, "frames", func() bool { return s.Received.Load() > 100_000 }) })

	held := a.fileBytes()
	before := a.Link.Info().Share
	with, took := under(t, s, func() {
		for i := range rounds {
			g.round(i, grow, shrink)
			if now := a.fileBytes(); now != held {
				t.Errorf("round %d: the arena holds %d bytes of huge pages, before it held %d", i, now, held)
			}
			if t.Failed() {
				return
			}
		}
	})
	after := a.Link.Info().Share
	if after.Refused != before.Refused || after.Regions != before.Regions || after.Waste() != 0 {
		t.Errorf("shared before: %+v, after: %+v", before, after)
	}
	t.Logf("%d rounds in %v, %.1f ms each; %.0f frames/s alone, %.0f frames/s meanwhile, %d of them from new pages; "+
		"%d frames, none lost; longest pause %v, longest answer %v", rounds, took.Round(time.Millisecond),
		took.Seconds()*1000/float64(rounds), alone, with, g.young.Load(), s.Received.Load(), after.MaxPause, after.MaxAck)
}

// under does something while s runs, and gives the frames that arrived a second.
func under(t *testing.T, s *Stream, do func()) (rate float64, took time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var enough atomic.Bool
	var wg sync.WaitGroup
	first, start := s.Received.Load(), time.Now()
	wg.Go(func() {
		if err := s.RunUntil(ctx, enough.Load); err != nil {
			t.Error(err)
		}
	})
	do()
	took = time.Since(start)
	rate = float64(s.Received.Load()-first) / took.Seconds()
	enough.Store(true)
	wg.Wait()
	return rate, took
}

// growth is a pool that grows and shrinks.
type growth struct {
	t     *testing.T
	f     *Front
	fresh atomic.Pointer[memtable.Extent] // the page that came last; nil: it is gone
	young atomic.Uint64                   // frames that were sent from such a page
	old   atomic.Uint64                   // and from the others
}

// hear takes note of a page that comes or goes.
func (g *growth) hear(e memfd.Event) {
	switch e.Kind {
	case memfd.Allocated:
		g.fresh.Store(&e.Extents[0])
	case memfd.Gone:
		g.fresh.Store(nil)
	}
}

// inspect counts where frames are sent from.
func (g *growth) inspect(b memtable.Buf) {
	if e := g.fresh.Load(); e != nil && b.Addr >= e.Addr && uint64(b.Addr-e.Addr) < e.Size {
		g.young.Add(1)
	} else {
		g.old.Add(1)
	}
}

// round grows by a page, waits until frames were sent from there and from
// elsewhere, and shrinks again.
func (g *growth) round(i int, grow, shrink string) {
	g.t.Helper()
	young, old := g.young.Load(), g.old.Load()
	if err := g.f.Pool.Grow(g.t.Context(), 1); err != nil {
		g.t.Fatalf("round %d: %v", i, err)
	}
	deadline := time.Now().Add(patience)
	for g.young.Load() < young+32 || g.old.Load() < old+32 {
		if g.t.Failed() || time.Now().After(deadline) {
			g.t.Fatalf("round %d: %d frames from the new page, %d from old ones", i, g.young.Load()-young, g.old.Load()-old)
		}
		time.Sleep(20 * time.Microsecond)
	}
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	const buffers = hugePage / 2048
	if gone, err := g.f.Pool.Shrink(ctx, buffers); gone != buffers || err != nil {
		g.t.Fatalf("round %d: %d buffers are gone: %v", i, gone, err)
	}
	// The history holds all messages, so between the two there was no other.
	all := g.f.Link.Info().Messages
	last := all[max(0, len(all)-2):]
	if got := fmt.Sprintf("%s %s, %s %s", last[0].Request, last[0].Result, last[1].Request, last[1].Result); got != grow+" ok, "+shrink+" ok" {
		g.t.Errorf("round %d: the last messages are %s", i, got)
	}
}

// fileBytes is how much memory the file of the arena's huge pages holds.
func (f *Front) fileBytes() int64 {
	f.t.Helper()
	var s syscall.Stat_t
	for _, e := range f.Arena.Extents() {
		if e.Page == hugePage {
			if err := syscall.Fstat(e.FD, &s); err != nil {
				f.t.Fatal(err)
			}
			break
		}
	}
	return s.Blocks * 512
}
