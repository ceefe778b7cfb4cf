package vhost

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// waiting runs the goroutine of a ring: it counts how often it looked.
type waiting struct {
	w     *waiter
	looks atomic.Uint64
	done  chan struct{}
}

func startWaiting(t testing.TB, look func()) *waiting {
	t.Helper()
	w, err := newWaiter()
	if err != nil {
		t.Fatal(err)
	}
	g := &waiting{w: w, done: make(chan struct{})}
	go func() {
		defer close(g.done)
		for w.Wait(false) {
			g.looks.Add(1)
			look()
		}
	}()
	t.Cleanup(func() {
		w.Close()
		within(t, "the waiter's end", func() { <-g.done })
	})
	return g
}

func nothing() {}

func setKick(t testing.TB, w *waiter, fd int, poll bool) {
	t.Helper()
	if err := w.Set(fd, poll); err != nil {
		t.Fatal(err)
	}
}

// settle waits until the goroutine has looked for everything that was there
// and is parked: a mark that stays while two more wakes pass.
func (g *waiting) settle(t testing.TB) {
	t.Helper()
	for range 2 {
		n := g.looks.Load()
		g.w.Wake()
		eventually(t, "a wake", func() bool { return g.looks.Load() > n })
	}
}

func TestWaiterWakesForEveryKickThoughNoneIsRead(t *testing.T) {
	here := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, here) }) // after the waiter's own
	g := startWaiting(t, nothing)
	given, peer := bell(t)
	setKick(t, g.w, given, false)
	g.settle(t)
	for range 100 {
		n := g.looks.Load()
		if err := addEventfd(peer); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a look", func() bool { return g.looks.Load() > n })
	}
	if got := signals(peer); got != 100 {
		t.Errorf("the counter is %d: someone read it", got)
	}
	if n := g.w.kicks.Load(); n != 100 {
		t.Errorf("counted %d kicks", n)
	}
}

func TestWaiterSeesTheKickThatCameBeforeTheFile(t *testing.T) {
	g := startWaiting(t, nothing)
	given, peer := bell(t)
	if err := addEventfd(peer); err != nil {
		t.Fatal(err)
	}
	setKick(t, g.w, given, false)
	eventually(t, "the kick", func() bool { return g.w.kicks.Load() == 1 })
}

// Work is put down before each kick, and kicks go to the file that is watched
// or about to be. The last look must find the last work, in every order.
func TestWaiterLosesNoKickWhileFilesAreSwapped(t *testing.T) {
	var put, seen atomic.Uint64
	g := startWaiting(t, func() { seen.Store(put.Load()) })
	given, peer := bell(t)
	setKick(t, g.w, given, false)
	for i := range 600 {
		given, next := bell(t)
		n := put.Add(1)
		_ = addEventfd(peer) // perhaps not looked at before the swap
		swapped := make(chan struct{})
		go func() {
			defer close(swapped)
			if err := g.w.Set(given, false); err != nil {
				t.Error(err)
			}
		}()
		if i%2 == 0 {
			n = put.Add(1)
			_ = addEventfd(next) // before, while or after it is watched
		}
		<-swapped
		eventually(t, "the work is seen", func() bool { return seen.Load() >= n })
		peer = next
	}
}

// The kernel may refuse to watch one more file (fs.epoll.max_user_watches).
func TestWaiterKeepsItsKickWhenAnotherCannotBeWatched(t *testing.T) {
	g := startWaiting(t, nothing)
	given, peer := bell(t)
	setKick(t, g.w, given, false)
	g.settle(t)
	files := openFiles(t)
	for _, poll := range []bool{false, true} {
		other, _ := bell(t)
		files++ // the peer's
		epfd := g.w.epfd
		g.w.epfd = -1
		err := g.w.Set(other, poll)
		g.w.epfd = epfd
		if err == nil || g.w.poll.Load() {
			t.Fatalf("error %v, by the clock: %v", err, g.w.poll.Load())
		}
		if n := openFiles(t); n != files {
			t.Errorf("%d files open, want %d", n, files)
		}
	}
	_ = addEventfd(peer)
	eventually(t, "the kick", func() bool { return g.w.kicks.Load() == 1 })
}

func TestWaiterIsDeafToAFileThatWasReplaced(t *testing.T) {
	g := startWaiting(t, nothing)
	given, peer := bell(t)
	setKick(t, g.w, given, false)
	setKick(t, g.w, -1, false)
	g.settle(t)
	before := g.w.kicks.Load()
	_ = addEventfd(peer)
	g.settle(t)
	if n := g.w.kicks.Load(); n != before {
		t.Error("a file that was taken away still kicks")
	}
}

// A peer that makes its eventfd block, and empties it, blocks nobody: there is
// no reader to block. (A kick that it takes back before we look is its own loss.)
func TestWaiterDoesNotCareWhetherTheKickBlocks(t *testing.T) {
	g := startWaiting(t, nothing)
	given, peer := bell(t)
	if err := unix.SetNonblock(peer, false); err != nil {
		t.Fatal(err)
	}
	setKick(t, g.w, given, false)
	for range 100 {
		n := g.w.kicks.Load()
		_ = addEventfd(peer)
		eventually(t, "the kick", func() bool { return g.w.kicks.Load() > n })
		signals(peer)
	}
	within(t, "Set", func() { setKick(t, g.w, -1, false) })
}

// SET_VRING_KICK with bit 8: the ring is looked at though nobody kicks, until
// a file comes.
func TestWaiterPollsByTheClockWithoutAFile(t *testing.T) {
	g := startWaiting(t, nothing)
	for range 20 { // parked for good, then by the clock
		setKick(t, g.w, -1, false)
		g.settle(t)
		runtime.Gosched()
		n := g.looks.Load()
		setKick(t, g.w, -1, true)
		eventually(t, "looks without a kick", func() bool { return g.looks.Load() > n+5 })
	}
	given, peer := bell(t)
	setKick(t, g.w, given, false)
	g.settle(t)
	n := g.looks.Load()
	time.Sleep(20 * pollMax) // what is proved is that nothing happens meanwhile
	if m := g.looks.Load(); m != n {
		t.Errorf("%d looks by the clock though there is a file", m-n)
	}
	_ = addEventfd(peer)
	eventually(t, "the kick", func() bool { return g.looks.Load() > n })
}

func TestWaiterCloseEndsTheWaitAndReturnsTheFiles(t *testing.T) {
	before := openFiles(t)
	for range 20 {
		w, err := newWaiter()
		if err != nil {
			t.Fatal(err)
		}
		given, err := newEventfd()
		if err != nil {
			t.Fatal(err)
		}
		setKick(t, w, given, false)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for w.Wait(false) {
			}
		}()
		w.Close()
		within(t, "the end of the wait", func() { <-done })
		w.Wake()
		if fd, err := newEventfd(); err != nil || w.Set(fd, false) == nil {
			t.Fatal("a closed waiter took a file", err)
		}
	}
	if after := openFiles(t); after > before+1 { // the runtime's poller may be new
		t.Errorf("%d files open, %d before", after, before)
	}
}

func BenchmarkWaiterKick(b *testing.B) {
	g := startWaiting(b, nothing)
	given, peer := bell(b)
	setKick(b, g.w, given, false)
	g.settle(b)
	for b.Loop() {
		n := g.looks.Load()
		_ = addEventfd(peer)
		for g.looks.Load() == n {
		}
	}
}
