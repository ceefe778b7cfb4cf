package memfd

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

// stuck makes growths of large sizes wait: began tells of each, and it goes on
// with what end says.
type stuck struct {
	began chan growth
	end   chan error
}

func stick(f *fake) *stuck {
	s := &stuck{began: make(chan growth), end: make(chan error)}
	f.ask = func(g growth) error {
		s.began <- g
		return <-s.end
	}
	return s
}

func TestGrowingHoldsUpOnlyWhoNeedsIt(t *testing.T) {
	h, f := plainHeap(t, 8)
	a := lend(t, h, 64, 0)
	s := stick(f)
	grown := make(chan error)
	go func() {
		_, err := h.Alloc(context.Background(), 2*fakeUnit, 0)
		grown <- err
	}()
	<-s.began
	// A mirror takes its time, and everybody else goes on.
	for range 100 {
		freed(t, h, lend(t, h, 512, 0))
	}
	if _, err := h.Realloc(t.Context(), a, 1024, 0); err != nil {
		t.Error(err)
	}
	h.Stats()
	h.store.sweep()
	// Who needs more waits, but not for longer than it wants to.
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error)
	go func() {
		_, err := h.Alloc(ctx, 3*fakeUnit, 0)
		waits <- err
	}()
	cancel()
	if err := <-waits; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.end <- nil
	if err := <-grown; err != nil {
		t.Error(err)
	}
}

func TestAGrownBlockGoesToWhoAskedForIt(t *testing.T) {
	h, f := plainHeap(t, 3)
	s := stick(f)
	results := make(chan error, 3)
	ask := func(n uint64) {
		_, err := h.Alloc(context.Background(), n, 0)
		results <- err
	}
	// Three want an extent each, and one is brought at a time. Whoever saw it
	// first would otherwise take it, and its owner find nothing.
	for range 3 {
		go ask(fakeUnit)
	}
	for range 3 {
		<-s.began
		s.end <- nil
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if f.held() != 3*fakeUnit {
		t.Errorf("%d bytes are taken", f.held())
	}
}

func TestManyThatNeedALittleGrowOnce(t *testing.T) {
	h, f := plainHeap(t, 8)
	s := stick(f)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if _, err := h.Alloc(context.Background(), 1024, 0); err != nil {
				t.Error(err)
			}
		})
	}
	<-s.began
	s.end <- nil
	all.Wait()
	if f.held() != fakeUnit {
		t.Errorf("%d bytes are taken for 16 KiB", f.held())
	}
}

func TestAGrowthThatIsRefusedChangesNothing(t *testing.T) {
	h, f := plainHeap(t, 4)
	a := lend(t, h, 64, 0)
	before := h.Stats()
	refused := &RefusedError{By: "the test", Err: errors.New("no")}
	f.ask = func(growth) error { return refused }
	_, err := h.Alloc(t.Context(), fakeUnit, 0)
	if got, ok := errors.AsType[*RefusedError](err); !ok || got != refused {
		t.Error(err)
	}
	if h.Stats() != before || audit(h.store) != nil {
		t.Errorf("%+v after %+v, %v", h.Stats(), before, audit(h.store))
	}
	f.ask = nil
	freed(t, h, a, lend(t, h, fakeUnit, 0))
}

// TestStorm has several goroutines allocate, free and sweep at random. Each
// writes its own mark all over what it has, and finds it there again.
func TestStorm(t *testing.T) {
	rounds := 10000
	if testing.Short() {
		rounds = 1000
	}
	a := opened(t, linux{}, Options{Name: "test", NoHuge: true, Extent: 64 << 10, Space: 64 << 20, Linger: -1})
	h, err := a.Heap("storm", HeapOptions{Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	w := newWitness(a)
	stop, err := a.Follow(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for worker := range uint64(4) {
		all.Go(func() { blow(t, h, rand.New(rand.NewPCG(worker, 1)), byte(worker+1), rounds) })
	}
	all.Wait()
	if err := errors.Join(audit(h.store), w.check()); err != nil {
		t.Error(err)
	}
	if err := errors.Join(h.Close(), stop(t.Context())); err != nil {
		t.Error(err)
	}
	if n := len(a.Extents()); n != 0 {
		t.Errorf("%d extents are left", n)
	}
}

func blow(t *testing.T, h *Heap, r *rand.Rand, mark byte, rounds int) {
	var mine []memtable.Buf
	drop := func(i int) {
		l := loaned{mine[i], mark}
		if !l.intact(uint64(l.Cap)) {
			t.Errorf("somebody wrote into %v", l.VA)
		}
		if err := h.Free(l.Buf); err != nil {
			t.Error(err)
		}
		mine[i] = mine[len(mine)-1]
		mine = mine[:len(mine)-1]
	}
	for range rounds {
		switch n := r.IntN(100); {
		case n == 0:
			h.store.sweep()
		case len(mine) > 0 && (n < 45 || len(mine) > 64):
			drop(r.IntN(len(mine)))
		default:
			b, err := h.Alloc(t.Context(), 1+r.Uint64N(1<<r.IntN(17)), 1<<r.IntN(12))
			if err != nil {
				t.Error(err)
				return
			}
			for i, mem := 0, b.VA.Bytes(uint64(b.Cap)); i < len(mem); i++ {
				mem[i] = mark
			}
			mine = append(mine, b)
		}
	}
	for len(mine) > 0 {
		drop(len(mine) - 1)
	}
}
