package vhost

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// bell makes an eventfd: the number that is given away, and the peer's own.
func bell(t testing.TB) (given, peer int) {
	t.Helper()
	fd, err := newEventfd()
	if err != nil {
		t.Fatal(err)
	}
	if peer, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(peer) })
	return fd, peer
}

// signals reads the eventfd's counter; 0: nothing was written.
func signals(fd int) uint64 {
	var b [8]byte
	if _, err := unix.Read(fd, b[:]); err != nil {
		return 0
	}
	return order.Uint64(b[:])
}

// jam makes every write to the eventfd wait: the counter is full and the open
// file description, which both ends share, blocks.
func jam(t testing.TB, fd int) {
	t.Helper()
	fill(fd)
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}

// fill adds what fills an empty counter.
func fill(fd int) {
	var full [8]byte
	order.PutUint64(full[:], 1<<64-2)
	_, _ = unix.Write(fd, full[:])
}

// within fails the test when f does not return in time.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(testTimeout):
		t.Fatalf("%s: still waiting after %v", what, testTimeout)
	}
}

func setBell(t testing.TB, d *doorbell, fd int) {
	t.Helper()
	if err := d.Set(fd); err != nil {
		t.Fatal(err)
	}
}

func TestDoorbellSignalsThePeer(t *testing.T) {
	defer goleak.VerifyNone(t)
	before := openFiles(t)
	d := newDoorbell(new(bells))
	given, peer := bell(t)
	setBell(t, d, given)
	for range 3 {
		d.Ring()
		eventually(t, "a signal", func() bool { return signals(peer) > 0 })
	}
	// Counts follow the write that the peer may have seen first.
	eventually(t, "counts", func() bool { r, w := d.Counts(); return r == 3 && w == 3 })
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d.Ring()
	if signals(peer) != 0 {
		t.Error("a closed doorbell rang")
	}
	if after := openFiles(t); after != before+1 { // the peer's
		t.Errorf("%d files open, %d before", after-1, before)
	}
	if given, _ := bell(t); d.Set(given) == nil {
		t.Error("a closed doorbell took a file")
	}
}

// Completions between SET_VRING_KICK and SET_VRING_CALL are signalled when the
// file comes, and so are those while the front-end swaps files.
func TestDoorbellKeepsARingUntilAFileComes(t *testing.T) {
	d := newDoorbell(new(bells))
	defer d.Close()
	d.Ring()
	for range 3 {
		given, peer := bell(t)
		setBell(t, d, given)
		eventually(t, "the kept ring", func() bool { return signals(peer) == 1 })
		setBell(t, d, -1)
		d.Ring()
		d.Ring()
	}
}

func TestDoorbellSwapsFilesWithoutLosingARing(t *testing.T) {
	d := newDoorbell(new(bells))
	defer d.Close()
	given, peer := bell(t)
	setBell(t, d, given)
	for range 200 {
		next, nextPeer := bell(t)
		var ringing sync.WaitGroup
		ringing.Go(d.Ring)
		setBell(t, d, next)
		ringing.Wait()
		old := signals(peer) // by now nothing writes there any more
		eventually(t, "the ring, on either file", func() bool { return old+signals(nextPeer) > 0 })
		if signals(peer) != 0 {
			t.Fatal("the old file was written after Set returned")
		}
		peer = nextPeer
	}
}

// GET_VRING_BASE takes the file away, and after a migration no other comes.
func TestDoorbellTellsTheOldFileWhatWasRungBefore(t *testing.T) {
	d := newDoorbell(new(bells))
	defer d.Close()
	for range 200 {
		given, peer := bell(t)
		setBell(t, d, given)
		d.Ring()
		setBell(t, d, -1)
		if signals(peer) != 1 {
			t.Fatal("the file was taken away before it was told")
		}
	}
}

func TestDoorbellOutlivesAPeerThatBlocksIt(t *testing.T) {
	defer goleak.VerifyNone(t)
	d := newDoorbell(new(bells))
	given, peer := bell(t)
	jam(t, peer)
	setBell(t, d, given)
	d.Ring()
	eventually(t, "the writer hangs", func() bool { return !d.pending.Load() })
	next, nextPeer := bell(t)
	within(t, "Set", func() { setBell(t, d, next) })
	eventually(t, "the ring reaches the next file", func() bool { return signals(nextPeer) > 0 })

	jam(t, nextPeer)
	d.Ring()
	eventually(t, "the writer hangs again", func() bool { return !d.pending.Load() })
	within(t, "Ring", func() {
		for range 1000 {
			d.Ring()
		}
	})
	within(t, "Close", func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Emptying the counter would not free the writer from a peer that fills it
// again at once; replacing the file does.
func TestDoorbellClosesThoughThePeerKeepsTheCounterFull(t *testing.T) {
	d := newDoorbell(new(bells))
	given, peer := bell(t)
	own, err := unix.FcntlInt(uintptr(peer), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	jam(t, peer)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer unix.Close(own)
		for {
			select {
			case <-stop:
				return
			default:
				fill(own)
			}
		}
	}()
	setBell(t, d, given)
	d.Ring()
	eventually(t, "the writer hangs", func() bool { return !d.pending.Load() })
	within(t, "Close", func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	// Free the filler, which hangs as the doorbell did.
	close(stop)
	_ = unix.SetNonblock(peer, true)
	eventually(t, "the filler ends", func() bool {
		signals(peer)
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
}

func TestDoorbellRefusesFilesThatAreNoEventfds(t *testing.T) {
	before := openFiles(t)
	d := newDoorbell(new(bells))
	defer d.Close()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	for _, fd := range p {
		if d.Set(fd) == nil {
			t.Error("a pipe was taken")
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d files open, %d before", after, before)
	}
}

func TestDoorbellRingAllocatesNothing(t *testing.T) {
	d := newDoorbell(new(bells))
	defer d.Close()
	given, _ := bell(t)
	setBell(t, d, given)
	if n := testing.AllocsPerRun(1000, d.Ring); n != 0 {
		t.Errorf("%v allocations per ring", n)
	}
}

func BenchmarkDoorbellRing(b *testing.B) {
	d := newDoorbell(new(bells))
	defer d.Close()
	given, _ := bell(b)
	setBell(b, d, given)
	for b.Loop() {
		d.Ring()
	}
}

func TestSetOnABusyMachineIsNotRefused(t *testing.T) {
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 64 { // so that Set's timer is late whenever it is looked at
		wg.Go(func() {
			for !stop.Load() {
			}
		})
	}
	defer wg.Wait()
	defer stop.Store(true)
	for range 30 {
		d := newDoorbell(new(bells))
		fd, err := newEventfd()
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Set(fd); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
