package memfd

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memtable"
)

func TestMemoryStaysForOneSweepAndGoesWithTheNext(t *testing.T) {
	h, f := plainHeap(t, 8)
	keep := lend(t, h, 64, 0)
	a := lend(t, h, 3*fakeUnit, 0)
	freed(t, h, a)
	if more := h.store.sweep(); !more || f.held() != 4*fakeUnit {
		t.Fatalf("%d bytes are taken after the first sweep", f.held())
	}
	if more := h.store.sweep(); more || f.held() != fakeUnit {
		t.Fatalf("%d bytes are taken after the second", f.held())
	}
	if st := h.Stats(); st.Returned != 3*fakeUnit || st.Mapped != fakeUnit {
		t.Errorf("%+v", st)
	}
	freed(t, h, keep)
}

func TestMemoryInSteadyUseIsNotGivenBack(t *testing.T) {
	h, f := plainHeap(t, 8)
	grown := 0
	f.ask = func(growth) error { grown++; return nil }
	for range 10 {
		a := lend(t, h, 2*fakeUnit, 0)
		freed(t, h, a)
		h.store.sweep()
	}
	if grown != 1 {
		t.Errorf("the heap grew %d times", grown)
	}
}

func TestOnlyExtentsThatWereVacantAllTheTimeGo(t *testing.T) {
	h, f := plainHeap(t, 8)
	first := lend(t, h, fakeUnit, 0)
	second := lend(t, h, fakeUnit, 0)
	third := lend(t, h, fakeUnit, 0)
	freed(t, h, first, second, third)
	h.store.sweep()
	// The middle one is used meanwhile.
	lead := lend(t, h, fakeUnit, 0)
	middle := lend(t, h, 100, 0)
	freed(t, h, lead, middle)
	h.store.sweep()
	if f.taken[0] != true || f.taken[1] != true || f.taken[2] != false || f.held() != 2*fakeUnit {
		t.Errorf("taken are %v", f.taken)
	}
	if err := audit(h.store); err != nil {
		t.Error(err)
	}
	h.store.sweep()
	if f.held() != 0 {
		t.Errorf("%d bytes are left", f.held())
	}
}

func TestAnExtentThatCannotBeTakenBackIsNotUsedAgain(t *testing.T) {
	h, f := plainHeap(t, 2)
	a := lend(t, h, fakeUnit, 0)
	freed(t, h, a)
	f.parting = func(va memtable.VA, size uint64) error {
		return &QuarantineError{VA: va, Size: size, Err: errors.New("held")}
	}
	h.store.sweep()
	h.store.sweep()
	f.parting = nil
	b := lend(t, h, fakeUnit, 0)
	if b.VA == a.VA {
		t.Error("quarantined memory was lent")
	}
	freed(t, h, b)
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("in vain we waited for this: " + what)
		}
	}
}

func TestFreeMemoryLeavesTheArenaByItself(t *testing.T) {
	o := small()
	o.Linger = time.Millisecond
	a := opened(t, linux{}, o)
	h, err := a.Heap("test", HeapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // and again, once all sweeps had ended
		b := lend(t, h, 100<<10, 0)
		freed(t, h, b)
		eventually(t, "nothing is mapped", func() bool { return len(a.Extents()) == 0 })
	}
}

func TestWhatIsToStayForEverIsNotSwept(t *testing.T) {
	a := opened(t, linux{}, small())
	h, err := a.Heap("test", HeapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	freed(t, h, lend(t, h, 100<<10, 0))
	if h.store.linger.armed {
		t.Error("a sweep is to come")
	}
}

func TestStopWaitsForTheSweepThatGoesOn(t *testing.T) {
	var l linger
	began, end := make(chan bool), make(chan bool)
	var ended atomic.Bool
	l.init(0, func() bool {
		if ended.Load() { // a second one, where stop came later than the end
			return false
		}
		began <- true
		<-end
		ended.Store(true)
		return true
	})
	l.arm()
	l.arm() // one sweep comes, not two
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		l.stop()
		if !ended.Load() {
			t.Error("stop did not wait")
		}
		cancel()
	}()
	end <- true
	<-ctx.Done()
	l.arm()
	if l.armed {
		t.Error("after the end a sweep is to come")
	}
}
