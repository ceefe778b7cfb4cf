package memfd

import (
	"errors"
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

func TestEachExtentRemembersWhenItWasUsedThoughOthersJoinIt(t *testing.T) {
	f := plainFake(t, 4)
	extent := func(n uint64) *block {
		f.taken[n] = true
		va := f.va.Add(n * fakeUnit)
		return &block{VA: va, Addr: memtable.IOVA(numberOf(va)), Size: fakeUnit, Page: 4096, Node: AnyNode, Extent: fakeUnit}
	}
	s := newStore(f, "test", true, true, -1)
	s.add(extent(1))
	l, err := s.take(t.Context(), request{size: fakeUnit, align: quantum, node: AnyNode})
	if err == nil {
		err = s.give(l.va, l.token)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.add(extent(0))
	s.sweep()
	if f.taken[0] || !f.taken[1] {
		t.Errorf("taken are %v: the one that was used was to stay", f.taken)
	}
}

// TestCloseWaitsForTheSweepThatGoesOn: what is being given back still is the
// heap's, and its arena must not be told that it is not.
func TestCloseWaitsForTheSweepThatGoesOn(t *testing.T) {
	f := plainFake(t, 4)
	h := heapOn(f, HeapOptions{Node: AnyNode})
	h.store.linger.wait = time.Millisecond
	began, end := make(chan bool), make(chan bool)
	f.parting = func(memtable.VA, uint64) error {
		began <- true
		<-end
		return nil
	}
	freed(t, h, lend(t, h, fakeUnit, 0))
	<-began
	closed := make(chan error)
	go func() { closed <- h.Close() }()
	select {
	case <-closed:
		t.Error("Close did not wait")
	case <-time.After(20 * time.Millisecond): // it may be late, and is not noticed then
	}
	end <- true
	if err := <-closed; err != nil {
		t.Error(err)
	}
	h.store.linger.arm()
	if h.store.linger.armed {
		t.Error("after the end a sweep is to come")
	}
}
