package memfd

import (
	"context"
	"errors"
	"math"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// plainHeap is a private heap on a fake of so many extents.
func plainHeap(t testing.TB, units int) (*Heap, *fake) {
	f := plainFake(t, units)
	return heapOn(f, HeapOptions{Node: AnyNode}), f
}

func lend(t testing.TB, h *Heap, n, align uint64) memtable.Buf {
	t.Helper()
	b, err := h.Alloc(t.Context(), n, align)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func freed(t testing.TB, h *Heap, all ...memtable.Buf) {
	t.Helper()
	for _, b := range all {
		if err := h.Free(b); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatNothingCouldHaveIsAnErrorAndTakesNothing(t *testing.T) {
	h, f := plainHeap(t, 4)
	whole := lend(t, h, 64, 0)
	for _, n := range []struct{ size, align uint64 }{
		{0, 0}, {0, 64}, {100, 17}, {100, 3}, {math.MaxUint64 - 1, 0}, {math.MaxUint64 - 7, 64}, {math.MaxUint64, 1},
		{1 << 32, 0}, {math.MaxUint32, 0}, {64, 1 << 63}, {64, math.MaxUint64}, {1 << 63, 1 << 63},
	} {
		if b, err := h.Alloc(t.Context(), n.size, n.align); !errors.Is(err, ErrSize) {
			t.Errorf("%d bytes aligned to %d: %+v, %v", n.size, n.align, b, err)
		}
		if b, err := h.Realloc(t.Context(), whole, n.size, n.align); !errors.Is(err, ErrSize) {
			t.Errorf("%d bytes aligned to %d, from 64: %+v, %v", n.size, n.align, b, err)
		}
	}
	for _, n := range []struct{ size, align uint64 }{{maxBuf, 0}, {64, 1 << 50}, {5 * fakeUnit, 0}} {
		_, err := h.Alloc(t.Context(), n.size, n.align)
		if _, short := errors.AsType[*ShortageError](err); !short {
			t.Errorf("%d bytes aligned to %d: %v", n.size, n.align, err)
		}
	}
	if f.held() != fakeUnit {
		t.Errorf("%d bytes are taken", f.held())
	}
	freed(t, h, whole)
}

func TestNoMorePagesAreTakenThanNeeded(t *testing.T) {
	for _, n := range []struct{ size, align, extents uint64 }{
		{1, 0, 1}, {fakeUnit - 128, 0, 1}, {fakeUnit - 127, 0, 1}, {fakeUnit - 1, 0, 1}, {fakeUnit, 0, 1},
		{fakeUnit, fakeUnit, 1}, {2 * fakeUnit, fakeUnit, 2}, {fakeUnit + 1, 0, 2}, {64, 4 * fakeUnit, 4},
	} {
		h, f := plainHeap(t, 9)
		b := lend(t, h, n.size, n.align)
		if f.held() != n.extents*fakeUnit {
			t.Errorf("%d bytes aligned to %d take %d", n.size, n.align, f.held())
		}
		freed(t, h, b)
	}
}

func TestOneByteMoreThanIsVacantGrows(t *testing.T) {
	h, f := plainHeap(t, 4)
	a := lend(t, h, 64, 0)
	b := lend(t, h, fakeUnit-64, 0)
	if f.held() != fakeUnit {
		t.Fatalf("what fits exactly took %d bytes", f.held())
	}
	c := lend(t, h, 1, 0)
	if f.held() != 2*fakeUnit {
		t.Fatalf("one byte more took %d bytes", f.held())
	}
	freed(t, h, a, b, c)
	if got := h.Stats().Greatest; got != 2*fakeUnit {
		t.Errorf("blocks that touch are not joined: the greatest piece has %d bytes", got)
	}
}

func TestMemoryOfOtherPageSizesIsNotJoined(t *testing.T) {
	f := newFake(t, ground{4096, fakeUnit, AnyNode, 1}, ground{fakeUnit, fakeUnit, AnyNode, 1}, ground{4096, fakeUnit, 1, 1})
	h := heapOn(f, HeapOptions{Node: AnyNode})
	a, b, c := lend(t, h, fakeUnit, 0), lend(t, h, fakeUnit, 0), lend(t, h, fakeUnit, 0)
	freed(t, h, a, b, c)
	if st := h.Stats(); st.Greatest != fakeUnit || st.Free != 3*fakeUnit {
		t.Errorf("%+v", st)
	}
	if err := errors.Join(audit(h.store), h.Close()); err != nil {
		t.Error(err)
	}
}

func TestNoPieceIsGreatForAnAlignmentAboveIt(t *testing.T) {
	h, _ := plainHeap(t, 2)
	lead := lend(t, h, 64, 0)
	c := &h.store.chunks
	for align := uint64(quantum); align <= most; align *= 2 {
		got := c.greatest(&request{align: align, node: AnyNode})
		if got > fakeUnit || align > 1<<47 && got != 0 {
			t.Errorf("aligned to %d: %d bytes", align, got)
		}
	}
	freed(t, h, lead)
}

func TestStatsAreAsBeforeWhenAllIsBack(t *testing.T) {
	h, _ := plainHeap(t, 4)
	lead := lend(t, h, 64, 0)
	before := h.Stats()
	a, b := lend(t, h, 1024, 0), lend(t, h, 1000, 0)
	st := h.Stats()
	if st.Allocations != 3 || st.Used != before.Used+2048 || st.Free != before.Free-2048 || st.Greatest != before.Greatest-2048 {
		t.Errorf("%+v after %+v", st, before)
	}
	freed(t, h, b, a)
	if h.Stats() != before {
		t.Errorf("%+v after %+v", h.Stats(), before)
	}
	freed(t, h, lead)
}

func TestFreshPagesAreNotClearedAgainAndOthersAre(t *testing.T) {
	h, f := plainHeap(t, 1)
	a := lend(t, h, 64, 0)
	// Memory that the heap takes for fresh, with a mark that shows a clearing.
	marked := f.mem[fakeUnit-1:]
	marked[0] = 1
	b, err := h.AllocZero(t.Context(), fakeUnit-64, 0)
	if err != nil || marked[0] != 1 {
		t.Fatalf("fresh pages were cleared: %v", err)
	}
	freed(t, h, a, b)
	c, err := h.AllocZero(t.Context(), fakeUnit, 0)
	if err != nil || marked[0] != 0 {
		t.Fatalf("used pages were not cleared: %v", err)
	}
	freed(t, h, c)
}

func TestAHeapThatHasMemoryLentDoesNotClose(t *testing.T) {
	h, f := plainHeap(t, 2)
	a := lend(t, h, 64, 0)
	if err := h.Close(); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	b := lend(t, h, 64, 0) // it goes on
	freed(t, h, a, b)
	if err := h.Close(); err != nil || f.held() != 0 {
		t.Fatal(f.held(), err)
	}
	if _, err := h.Alloc(context.Background(), 64, 0); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := h.Close(); err != nil {
		t.Error("a second time:", err)
	}
}

func TestHeapsAreListedUntilTheyAreClosed(t *testing.T) {
	a := opened(t, linux{}, small())
	h, err := a.Heap("b", HeapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := a.Heap("a", HeapOptions{Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Heap("b", HeapOptions{}); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if _, err := a.Heap("", HeapOptions{}); !errors.Is(err, ErrName) {
		t.Error(err)
	}
	b := lend(t, h, 64, 0)
	for range 2 { // its name stays, and it does, while it has memory lent
		if err := h.Close(); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		if all := a.Heaps(); len(all) != 2 || all[0].Name() != "a" || all[1] != h {
			t.Errorf("%v", all)
		}
	}
	freed(t, h, b)
	if err := errors.Join(h.Close(), other.Close()); err != nil || len(a.Heaps()) != 0 {
		t.Error(err, a.Heaps())
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := a.Heap("late", HeapOptions{}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestANodeIsAskedForOnlyWhereThereAreNodes(t *testing.T) {
	a := opened(t, linux{}, small())
	h, err := a.Heap("anywhere", HeapOptions{Node: 3})
	if err != nil {
		t.Fatal(err)
	}
	freed(t, h, lend(t, h, 64, 0))
	o := small()
	o.Nodes = []int{0}
	b := opened(t, linux{}, o)
	elsewhere, err := b.Heap("elsewhere", HeapOptions{Node: 3})
	if err != nil {
		t.Fatal(err)
	}
	_, err = elsewhere.Alloc(t.Context(), 64, 0)
	if _, short := errors.AsType[*ShortageError](err); !short {
		t.Error(err)
	}
}

func TestMemoryThatVanishedIsAnErrorAndNoCrash(t *testing.T) {
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err == nil {
		err = unix.Ftruncate(fd, 8192)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	m, err := memtable.MapFile(fd, 0, 8192, memtable.MapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := unix.Ftruncate(fd, 4096); err != nil {
		t.Fatal(err)
	}
	l := loan{va: m.VA(), dirty: 8192}
	if _, ok := errors.AsType[*memtable.FaultError](l.clear()); !ok {
		t.Error("memory was cleared that is not there")
	}
}
