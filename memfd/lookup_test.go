package memfd

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

func TestALookUpAnswersToTheByte(t *testing.T) {
	a := opened(t, linux{}, small())
	b := take(t, a, growth{owner: "b", size: 48 << 10, node: AnyNode})
	c := take(t, a, growth{owner: "c", size: 16 << 10, node: AnyNode})
	table := a.ByIOVA(nil)
	end := b.Addr + memtable.IOVA(b.Size+c.Size)
	for _, test := range []struct {
		what string
		at   memtable.IOVA
		n    uint64
		ok   bool
	}{
		{"the first byte", b.Addr, 1, true},
		{"over the border of two extents", b.Addr + 16<<10 - 1, 2, true},
		{"over the border of two blocks", c.Addr - 8, 16, true},
		{"all of it", b.Addr, b.Size + c.Size, true},
		{"the last byte", end - 1, 1, true},
		{"one past the end", end, 1, false},
		{"over the end", end - 1, 2, false},
		{"one before", b.Addr - 1, 1, false},
		{"around 2^64", b.Addr, 1<<64 - 1, false},
	} {
		if va, ok := table.At(test.at, test.n); ok != test.ok || ok && va != b.VA.Add(uint64(test.at-b.Addr)) {
			t.Errorf("%s: %v, %v", test.what, va, ok)
		}
	}
	giveBack(t, a, b)
	if _, ok := a.ByIOVA(nil).At(b.Addr, 1); ok {
		t.Error("what was released is still found")
	}
	if _, ok := a.Lookup(b.VA); ok {
		t.Error("a hole is taken for memory")
	}
	if _, ok := a.ByIOVA(nil).At(c.Addr, c.Size); !ok {
		t.Error("what stays is not found")
	}
	giveBack(t, a, c)
}

func TestNeighboursOfDifferentFilesNeverMerge(t *testing.T) {
	o := small()
	o.Nodes = []int{AnyNode, 0}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	b := take(t, a, growth{owner: "b", size: o.Space, node: AnyNode})
	c, err := a.grow(t.Context(), growth{owner: "c", size: o.Space, node: 0})
	if err != nil {
		t.Skip("memory of node 0 cannot be had:", err)
	}
	n := 0
	for e := range a.Walk() {
		n++
		if e.Size != o.Space {
			t.Errorf("a walk finds %d bytes in one piece", e.Size)
		}
	}
	if n != 2 || len(a.Runs()) != 0 || len(a.ByIOVA(nil).Regions()) != 2 {
		t.Errorf("a walk finds %d pieces, the table has %v", n, a.ByIOVA(nil).Regions())
	}
	giveBack(t, a, b)
	giveBack(t, a, c)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestRunsDoNotDependOnTheOrderOfWhatHappened(t *testing.T) {
	a := opened(t, linux{}, small())
	var first []memtable.Run
	for _, order := range [][]int{{0, 1, 2, 3, 4, 5}, {5, 3, 1, 0, 2, 4}} {
		var blocks []*block
		for range 6 {
			blocks = append(blocks, take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode, shared: true}))
		}
		for _, i := range order {
			if i%2 == 1 {
				giveBack(t, a, blocks[i])
			}
		}
		var runs []memtable.Run
		for _, r := range a.Runs() {
			r.File = memtable.FileID{}
			runs = append(runs, r)
		}
		if first == nil {
			first = runs
		}
		if diff := cmp.Diff(first, runs); diff != "" {
			t.Error(diff)
		}
		for i := 0; i < 6; i += 2 {
			giveBack(t, a, blocks[i])
		}
	}
	offsets := []uint64{first[0].Offset, first[1].Offset, first[2].Offset}
	if !cmp.Equal(offsets, []uint64{0, 32 << 10, 64 << 10}) {
		t.Errorf("the offsets are %d: not the lowest first", offsets)
	}
}

func TestAPeerSeesTheSameMemoryAndCannotTakeItAway(t *testing.T) {
	a := opened(t, linux{}, small())
	b := take(t, a, growth{owner: "b", size: 32 << 10, node: AnyNode, shared: true})
	e, _ := a.Lookup(b.VA.Add(20 << 10))
	peer, err := unix.Mmap(e.FD, e.Offset, int(e.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	peer[7] = 42
	if got := e.VA.Bytes(8)[7]; got != 42 {
		t.Errorf("the peer wrote 42, we read %d", got)
	}
	if err := unix.Ftruncate(e.FD, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("truncating the file: %v", err)
	}
	if _, err := unix.FcntlInt(uintptr(e.FD), unix.F_ADD_SEALS, unix.F_SEAL_GROW); !errors.Is(err, unix.EPERM) {
		t.Errorf("sealing the file against growth: %v", err)
	}
	// Our memory goes back although the peer keeps its mapping.
	giveBack(t, a, b)
	if peer[7] != 0 {
		t.Error("what was released still has what the peer wrote")
	}
	if err := unix.Munmap(peer); err != nil {
		t.Error(err)
	}
}

// scattered resolves the pages of an arena to physical addresses in reverse.
type scattered struct{ short bool }

func (r scattered) Resolve(v memtable.VA, n uint64) (memtable.PA, uint64, error) {
	if n = min(n, uint64(os.Getpagesize())); r.short {
		n--
	}
	return memtable.PA(1<<47 - numberOf(v)), n, nil
}

func TestWhereAddressesAreScatteredEachPageIsFound(t *testing.T) {
	o := small()
	o.IOVA, o.Resolver = IOVAAsPA, scattered{}
	a := opened(t, linux{}, o)
	b := take(t, a, growth{owner: "b", size: 64 << 10, node: AnyNode})
	if b.Extent != uint64(os.Getpagesize()) {
		t.Errorf("the extent is %d bytes", b.Extent)
	}
	for off := uint64(0); off < b.Size; off += 1000 {
		addr, n, ok := a.iova(b.VA.Add(off))
		va, found := a.ByIOVA(nil).At(addr, n)
		if !ok || !found || va != b.VA.Add(off) || off%b.Extent+n != b.Extent {
			t.Errorf("offset %d: IOVA %x for %d bytes, which is at %v", off, addr, n, va)
		}
	}
	before := look(t, a)
	_, err := a.grow(t.Context(), growth{owner: "c", size: 2 * b.Extent, node: AnyNode, contiguous: true})
	if _, ok := errors.AsType[*ShortageError](err); !ok {
		t.Errorf("contiguous memory: %v", err)
	}
	if diff := cmp.Diff(before, look(t, a)); diff != "" {
		t.Error(diff)
	}
	giveBack(t, a, b)
}

func TestAPageThatIsNotInOnePieceIsRefused(t *testing.T) {
	o := small()
	o.IOVA, o.Resolver = IOVAAsPA, scattered{short: true}
	a := opened(t, linux{}, o)
	before := look(t, a)
	if _, err := a.grow(t.Context(), growth{owner: "b", size: 1, node: AnyNode}); err == nil {
		t.Error("growing succeeded")
	}
	if diff := cmp.Diff(before, look(t, a)); diff != "" {
		t.Error(diff)
	}
}

func TestMemoryIsNotUnmappedUnderAWorker(t *testing.T) {
	domain := new(memtable.Domain)
	o := small()
	o.Domain = domain
	a := opened(t, linux{}, o)
	worker := domain.Join("worker")
	defer worker.Close()
	b := take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode})

	worker.Enter()
	va, ok := a.ByIOVA(worker).At(b.Addr, 8)
	if !ok {
		t.Fatal("not found")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := a.release(ctx, b.VA, b.Size)
	if _, late := errors.AsType[*memtable.LateError](err); !late {
		t.Fatalf("release under a worker: %v", err)
	}
	va.Bytes(8)[0] = 1 // faults if it was unmapped
	worker.Leave()
	if err := a.Reclaim(t.Context()); err != nil {
		t.Error(err)
	}
	if _, ok := a.Lookup(b.VA); ok {
		t.Error("it is still mapped")
	}
}

func TestAFaultInAHoleIsNotBlamedOnAPeer(t *testing.T) {
	a := opened(t, linux{}, small())
	b := take(t, a, growth{owner: "b", size: 32 << 10, node: AnyNode})
	if err := a.release(t.Context(), b.VA, 16<<10); err != nil {
		t.Fatal(err)
	}
	defer giveBack(t, a, &block{VA: b.VA.Add(16 << 10), Size: 16 << 10})
	defer func() {
		if fault, ours := memtable.AsFault(recover()); ours {
			t.Errorf("using memory after it was released is blamed on %v: %v", fault.Owner, fault)
		}
	}()
	memtable.Faults()
	if b.VA.Bytes(1)[0] == 0 {
		t.Error("what was released can be read")
	}
}

func TestCloseSaysWhatIsInUse(t *testing.T) {
	a := opened(t, linux{}, small())
	b := take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode})
	if err := a.Close(); !errors.Is(err, ErrBusy) {
		t.Errorf("Close: %v", err)
	}
	giveBack(t, a, b)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := a.grow(t.Context(), growth{size: 1, node: AnyNode}); !errors.Is(err, ErrClosed) {
		t.Errorf("growing after Close: %v", err)
	}
	if _, err := a.Follow(t.Context(), newWitness(a)); !errors.Is(err, ErrClosed) {
		t.Errorf("following after Close: %v", err)
	}
	if lines := mapsOf(t, a.classes[0]); slices.Contains(lines, "0-100000 ---p 0") {
		t.Error("the reservation stays")
	}
}

func TestReleasingWhatIsNotAWholeExtentIsRefused(t *testing.T) {
	a := opened(t, linux{}, small())
	b := take(t, a, growth{owner: "b", size: 32 << 10, node: AnyNode})
	before := look(t, a)
	for _, wrong := range []struct {
		va   memtable.VA
		size uint64
	}{
		{b.VA, 0}, {b.VA, 1000}, {b.VA.Add(4096), 16 << 10}, {b.VA, 48 << 10},
		{b.VA, 1<<64 - 16<<10}, {b.VA, 2 << 20}, {memtable.VA{}, 16 << 10},
	} {
		if err := a.release(t.Context(), wrong.va, wrong.size); err == nil {
			t.Errorf("%d bytes at %v were released", wrong.size, wrong.va)
		}
	}
	if diff := cmp.Diff(before, look(t, a)); diff != "" {
		t.Error(diff)
	}
	giveBack(t, a, b)
	if err := a.release(t.Context(), b.VA, b.Size); err == nil {
		t.Error("released twice")
	}
}
