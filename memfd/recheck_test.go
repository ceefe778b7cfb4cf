package memfd

import (
	"context"
	"errors"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

var errSwapped = errors.New("the page is not in memory")

// frames is physical memory, in which pages can be moved and swapped out.
type frames struct {
	mu   sync.Mutex
	of   map[uint64]memtable.PA // by page of ours
	out  map[uint64]bool        // swapped out
	next memtable.PA
}

func (f *frames) Resolve(v memtable.VA, n uint64) (memtable.PA, uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := numberOf(v)
	page, in := at&^4095, at&4095
	if f.out[page] {
		return 0, 0, errSwapped
	}
	if f.of == nil {
		f.of, f.next = make(map[uint64]memtable.PA), 1<<32
	}
	if _, ok := f.of[page]; !ok {
		f.next += 4096
		f.of[page] = f.next
	}
	return f.of[page] + memtable.PA(in), min(n, 4096-in), nil
}

// move gives a page a frame that nobody had before.
func (f *frames) move(v memtable.VA) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next += 1 << 20
	f.of[numberOf(v)] = f.next
}

// swap exchanges the frames of two pages.
func (f *frames) swap(v, w memtable.VA) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, b := numberOf(v), numberOf(w)
	f.of[a], f.of[b] = f.of[b], f.of[a]
}

// physical is an arena whose pages move when f says so.
func physical(t *testing.T, k kernel) (*Arena, *frames) {
	o, f := small(), new(frames)
	o.IOVA, o.Resolver = IOVAAsPA, f
	return opened(t, k, o), f
}

// truthful tells that look-ups know every page where it is.
func truthful(t *testing.T, a *Arena, f *frames) {
	t.Helper()
	for _, e := range a.Extents() {
		pa, _, err := f.Resolve(e.VA, 1)
		if err != nil {
			t.Fatal(err)
		}
		addr, _, ok := a.Addr(e.VA)
		va, found := a.ByIOVA(nil).At(memtable.IOVA(pa), 4096)
		if !ok || addr != memtable.IOVA(pa) || e.Addr != addr || !found || va != e.VA {
			t.Errorf("the page at %v is at 0x%x; look-ups say 0x%x, and that %v is there", e.VA, pa, addr, va)
		}
	}
}

func TestRecheckPublishesWherePagesAreNow(t *testing.T) {
	a, f := physical(t, linux{})
	b := take(t, a, growth{owner: "b", size: 32 << 10, node: AnyNode, shared: true})
	w, _ := followed(t, a) // sees to it that what leaves has the address it arrived with
	if moved, err := a.Recheck(t.Context()); err != nil || len(moved) > 0 {
		t.Errorf("nothing moved, and Recheck says %v, %v", moved, err)
	}
	page := func(i uint64) memtable.VA { return b.VA.Add(i << 12) }
	was, _, _ := a.Addr(page(5))
	f.swap(page(0), page(3))
	f.move(page(5))
	moved, err := a.Recheck(t.Context())
	if err != nil || len(moved) != 3 || moved[0].VA != page(0) || moved[1].VA != page(3) || moved[2].VA != page(5) {
		t.Fatalf("moved: %+v, %v", moved, err)
	}
	truthful(t, a, f)
	if va, ok := a.ByIOVA(nil).At(was, 1); ok {
		t.Errorf("at 0x%x, which nobody has any more, is %v", was, va)
	}
	giveBack(t, a, b)
	if left := w.addresses(); len(left) > 0 {
		t.Errorf("the mirror can reach %x", left)
	}
}

func TestPagesThatBecomeNeighboursAreOneRange(t *testing.T) {
	a, f := physical(t, linux{})
	b := take(t, a, growth{owner: "b", size: 8 << 10, node: AnyNode})
	f.move(b.VA.Add(4096))
	for _, together := range []bool{false, true} {
		if together {
			f.mu.Lock()
			f.of[numberOf(b.VA)+4096] = f.of[numberOf(b.VA)] + 4096
			f.mu.Unlock()
		}
		if _, err := a.Recheck(t.Context()); err != nil {
			t.Fatal(err)
		}
		addr, n, _ := a.iova(b.VA)
		if _, ok := a.ByIOVA(nil).At(addr, 8<<10); ok != together || (n == 8<<10) != together {
			t.Errorf("neighbours: %v; %d bytes in one piece, found at once: %v", together, n, ok)
		}
	}
	giveBack(t, a, b)
}

func TestAPageThatWasSwappedOutIsBroughtBackBeforeItIsLookedAt(t *testing.T) {
	k := &swapper{saboteur: new(saboteur)}
	a, f := physical(t, k)
	k.frames = f
	b := take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode})
	f.out = map[uint64]bool{numberOf(b.VA) + 4096: true}
	before := look(t, a)
	k.arm(unix.EINTR, 1)
	if moved, err := a.Recheck(t.Context()); !errors.Is(err, errSwapped) || !errors.Is(err, unix.EINTR) || len(moved) > 0 {
		t.Errorf("Recheck where %v failed: %v, %v", k.failed(), moved, err)
	}
	if after := look(t, a); after.Table != before.Table {
		t.Errorf("look-ups were %s and are %s", before.Table, after.Table)
	}
	k.arm(nil)
	moved, err := a.Recheck(t.Context())
	if err != nil || len(moved) != 1 || moved[0].VA != b.VA.Add(4096) {
		t.Errorf("moved: %v, %v", moved, err)
	}
	truthful(t, a, f)
	giveBack(t, a, b)
}

// swapper brings pages back into other frames.
type swapper struct {
	*saboteur
	frames *frames
}

func (s *swapper) touch(at []byte) error {
	if err := s.next("touch"); err != nil {
		return err
	}
	s.frames.mu.Lock()
	defer s.frames.mu.Unlock()
	for page := range s.frames.out {
		if page-addressOf(at) < uint64(len(at)) {
			delete(s.frames.out, page)
			s.frames.next += 1 << 20
			s.frames.of[page] = s.frames.next
		}
	}
	return nil
}

func TestPagesMoveWhileMemoryComesAndGoes(t *testing.T) {
	a, f := physical(t, linux{})
	stays := take(t, a, growth{owner: "stays", size: 32 << 10, node: AnyNode})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 100 {
				b, err := a.grow(context.Background(), growth{owner: "w", size: 16 << 10, node: AnyNode, shared: true})
				if err != nil {
					t.Error(err)
					return
				}
				f.move(b.VA)
				if err := a.release(context.Background(), b.VA, b.Size); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range uint64(200) {
		f.move(stays.VA.Add(i % 8 << 12))
		if _, err := a.Recheck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if _, err := a.Recheck(t.Context()); err != nil {
		t.Fatal(err)
	}
	truthful(t, a, f)
	giveBack(t, a, stays)
}
