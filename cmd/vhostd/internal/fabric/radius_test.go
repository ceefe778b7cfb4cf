package fabric

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost/vhosttest"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// flow keeps two guests talking in the background, frame by frame and each
// checked, until the test says stop.
type flow struct {
	tb     testing.TB
	a, b   *vhosttest.Guest
	from   int // port of a; b is at the next
	frames atomic.Int64
	lost   atomic.Int64
	stop   atomic.Bool
	wg     sync.WaitGroup
}

func (h *hall) talk(from int, a, b *vhosttest.Guest) *flow {
	f := &flow{tb: h.tb, a: a, b: b, from: from}
	b.Send(vhosttest.Frame(broadcast, address(from+1), 60, 0))
	if a.Recv(vhosttest.Timeout) == nil {
		h.tb.Fatal("the flow's ends do not hear each other")
	}
	f.wg.Go(func() {
		frame := vhosttest.Frame(address(from+1), address(from), 900, 0)
		for i := byte(0); !f.stop.Load(); i++ {
			frame[14] = i
			a.Send(frame)
			got := b.Recv(time.Second)
			for got != nil && !bytes.Equal(got[:6], frame[:6]) { // flooded by others
				got = b.Recv(time.Second)
			}
			if !bytes.Equal(got, frame) {
				f.lost.Add(1)
				continue
			}
			f.frames.Add(1)
		}
	})
	h.tb.Cleanup(func() { f.stop.Store(true); f.wg.Wait() })
	return f
}

// more waits until n more frames went through: the flow lives.
func (h *hall) more(f *flow, n int64) {
	h.tb.Helper()
	want := f.frames.Load() + n
	h.until("other ports carry traffic", func() bool { return f.frames.Load() >= want })
}

// end stops the flow; none of its frames may have been lost.
func (f *flow) end() {
	f.tb.Helper()
	f.stop.Store(true)
	f.wg.Wait()
	if n := f.lost.Load(); n > 0 {
		f.tb.Errorf("%d frames between other ports were lost", n)
	}
}

func TestAStuckReceiverCostsOnlyItsOwnFrames(t *testing.T) {
	h := open(t, 4, PortOptions{})
	flow := h.talk(0, h.plug(0, vhosttest.Options{}), h.plug(1, vhosttest.Options{}))
	sender, stuck := h.plug(2, vhosttest.Options{}), h.plug(3, vhosttest.Options{Hole: true})
	stuck.Send(vhosttest.Frame([6]byte{2, 9, 9, 9, 9, 9}, address(3), 60, 0)) // it is learned
	h.until("the stuck guest is known", func() bool {
		_, ok := h.sw.fdb.lookup(macOf(addressSlice(3)), h.sw.clock())
		return ok
	})
	h.more(flow, 20)
	const frames = 500
	before := h.ports[3].Stats().Drops[NoBuffers.String()]
	for range frames {
		sender.Send(vhosttest.Frame(address(3), address(2), 200, 0))
	}
	h.dropped(3, NoBuffers, before+frames)
	h.more(flow, 20)
	flow.end()
}

func addressSlice(port int) []byte { a := address(port); return a[:] }

func TestMemoryThatVanishesCostsItsOwnConnection(t *testing.T) {
	for _, who := range []string{"receiver", "sender"} {
		t.Run(who, func(t *testing.T) {
			h := open(t, 4, PortOptions{})
			flow := h.talk(0, h.plug(0, vhosttest.Options{}), h.plug(1, vhosttest.Options{}))
			a, b := h.plug(2, vhosttest.Options{}), h.plug(3, vhosttest.Options{})
			a.Send(vhosttest.Frame(broadcast, address(2), 60, 0))
			b.Send(vhosttest.Frame(broadcast, address(3), 60, 0))
			if b.Recv(vhosttest.Timeout) == nil || a.Recv(vhosttest.Timeout) == nil {
				t.Fatal("no greeting")
			}
			h.more(flow, 5)
			bad, port := b, 3
			if who == "sender" {
				bad, port = a, 2
			}
			if who == "receiver" {
				a.Pairs[0].TX.Add(vnet.Header{}, vhosttest.Frame(address(3), address(2), 600, 0))
			} else {
				a.Pairs[0].TX.Add(vnet.Header{}, vhosttest.Frame(address(3), address(2), 600, 0))
				a.Pairs[0].TX.Publish() // published, and gone before or after it was read
			}
			if err := unix.Ftruncate(bad.FD, 0); err != nil {
				t.Fatal(err)
			}
			if who == "receiver" {
				a.Pairs[0].TX.Publish()
			} else {
				a.Pairs[0].TX.Kick()
			}
			h.until("the connection ended", func() bool { return h.ports[port].Session() == nil })
			h.more(flow, 20)
			if other := h.ports[5-port].Session(); other == nil {
				t.Error("the other side's connection ended too")
			}
			flow.end()
		})
	}
}

func TestABrokenRingIsSignalledAndItsNeighboursLive(t *testing.T) {
	h := open(t, 3, PortOptions{Pairs: 2})
	flow := h.talk(0, h.plug(0, vhosttest.Options{}), h.plug(1, vhosttest.Options{}))
	bad := h.plug(2, vhosttest.Options{Pairs: 2, Features: modern | vnet.FeatureMQ})
	errfd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(errfd)
	if err := bad.Conn.SetVringErr(1, errfd); err != nil {
		t.Fatal(err)
	}
	bad.Pairs[0].TX.Corrupt(0xfff0)
	var count [8]byte
	h.until("error eventfd signalled", func() bool { n, _ := unix.Read(errfd, count[:]); return n == 8 })
	// The other transmit queue of the same guest works.
	bad.Pairs[1].TX.Add(vnet.Header{}, vhosttest.Frame(broadcast, address(2), 60, 1))
	bad.Pairs[1].TX.Publish()
	h.until("the sibling ring works", func() bool { return h.ports[2].Stats().Queues[1].InFrames == 1 })
	h.more(flow, 5)
}

// racing says that the race detector is on.
var racing bool

// kinds are the ways of a frame that must not allocate.
var kinds = map[string]struct {
	dst [6]byte
	o   vhosttest.Options
}{
	"unicast":   {address(1), vhosttest.Options{}},
	"flood":     {broadcast, vhosttest.Options{}},
	"mergeable": {address(1), vhosttest.Options{Features: modern | vnet.FeatureMrgRxbuf, Buffer: 256}},
	"indirect":  {address(1), vhosttest.Options{Features: modern | virtioIndirect, Indirect: true}},
}

// TestForwardingAllocatesNothing is contract 7 of the design, for the work on
// the rings: a million frames of each kind.
func TestForwardingAllocatesNothing(t *testing.T) {
	for name, c := range kinds {
		t.Run(name, func(t *testing.T) {
			guests, serve := plugByHand(t, 3, c.o)
			for i, g := range guests {
				g.Send(vhosttest.Frame(broadcast, address(i), 60, 0))
			}
			counted(t, guests, vhosttest.Frame(c.dst, address(0), 600, 0), 1_000_000, serve)
		})
	}
}

// TestWakingAllocatesNothing is the same with kicks, parked workers and calls.
func TestWakingAllocatesNothing(t *testing.T) {
	for name, c := range kinds {
		t.Run(name, func(t *testing.T) {
			h := open(t, 3, PortOptions{})
			guests := []*vhosttest.Guest{h.plug(0, c.o), h.plug(1, c.o), h.plug(2, c.o)}
			h.greet(guests...)
			counted(t, guests, vhosttest.Frame(c.dst, address(0), 600, 0), 20_000, runtime.Gosched)
		})
	}
}

// counted pumps n frames, after some that make what is made once.
func counted(t *testing.T, guests []*vhosttest.Guest, frame []byte, n int, serve func()) {
	t.Helper()
	if racing {
		t.Skip("the race detector allocates where the program does not")
	}
	pump(t, guests, frame, 5000, serve)
	before := mallocs()
	pump(t, guests, frame, n, serve)
	if grown := mallocs() - before; grown > 100 {
		t.Errorf("%d mallocs over %d frames, 100 are allowed", grown, n)
	}
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// pump sends n frames from the first guest and lets the others take what comes.
func pump(tb testing.TB, guests []*vhosttest.Guest, frame []byte, n int, serve func()) {
	tb.Helper()
	var buf [4096]byte
	tx := guests[0].Pairs[0].TX
	stuck := time.Now().Add(vhosttest.Timeout)
	for sent := 0; sent < n; {
		before := sent
		for range burst {
			if sent < n && tx.Add(vnet.Header{}, frame) {
				sent++
			}
		}
		tx.Publish()
		serve()
		for _, g := range guests[1:] {
			for {
				if _, got := g.Pairs[0].RX.Next(buf[:]); got == 0 {
					break
				}
			}
		}
		if sent > before {
			stuck = time.Now().Add(vhosttest.Timeout)
		} else if time.Now().After(stuck) {
			tb.Fatalf("stuck after %d of %d frames", sent, n)
		}
	}
}
