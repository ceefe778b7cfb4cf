package memfd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

const somePage = 4096

// anonymous gives memory of a caller, without a file.
func anonymous(t testing.TB, size int) []byte {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	return mem
}

// filed gives memory of a caller, mapped from the second page of a file on.
func filed(t testing.TB, size int) ([]byte, *os.File) {
	t.Helper()
	fd, err := unix.MemfdCreate("callers", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "callers")
	t.Cleanup(func() { _ = f.Close() })
	if err := f.Truncate(int64(size) + somePage); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(fd, somePage, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	return mem, f
}

// addrs gives an address for each page, in one piece from first on.
func addrs(mem []byte, first uint64) []memtable.IOVA {
	all := make([]memtable.IOVA, len(mem)/somePage)
	for i := range all {
		all[i] = memtable.IOVA(first + uint64(i)*somePage)
	}
	return all
}

func register(t testing.TB, a *Arena, name string, o ExternalOptions) *External {
	t.Helper()
	x, err := a.Register(t.Context(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func unregister(t testing.TB, x *External) {
	t.Helper()
	if err := x.Unregister(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestExternalMemoryIsFoundByEveryLookUpAndThenByNone(t *testing.T) {
	a := opened(t, linux{}, small())
	before := look(t, a)
	mem, file := filed(t, 16*somePage)
	backwards := addrs(mem, 1<<40)
	slices.Reverse(backwards)
	for name, o := range map[string]ExternalOptions{
		"at its own address": {Mem: mem},
		"in one piece":       {Mem: mem, File: file, Offset: somePage, Addrs: addrs(mem, 1<<32)},
		"in pages":           {Mem: mem, File: file, Offset: somePage, Addrs: backwards, Shared: true},
	} {
		t.Run(name, func(t *testing.T) {
			x := register(t, a, name, o)
			if a.External(name) != x {
				t.Error("it is not found by its name")
			}
			for i := 0; i < len(mem); i += somePage / 2 {
				want := memtable.IOVA(addressOf(mem) + uint64(i))
				if o.Addrs != nil {
					want = o.Addrs[i/somePage] + memtable.IOVA(i%somePage)
				}
				va, ok := a.ByIOVA(nil).At(want, 1)
				if !ok || numberOf(va) != addressOf(mem[i:]) {
					t.Fatalf("address 0x%x for devices is found at %v, want 0x%x", want, va, addressOf(mem[i:]))
				}
				e, ok := a.Lookup(va)
				if !ok || e.Addr+memtable.IOVA(numberOf(va)-numberOf(e.VA)) != want || (e.FD >= 0) != (o.File != nil) {
					t.Fatalf("the look-up of %v gives %+v, want address 0x%x", va, e, want)
				}
				if o.File != nil && e.Offset-o.Offset != int64(numberOf(e.VA)-addressOf(mem)) {
					t.Fatalf("the extent at %v has offset %d", e.VA, e.Offset)
				}
			}
			size := uint64(0)
			for e := range a.Walk() {
				size += e.Size
			}
			if size != uint64(len(mem)) {
				t.Errorf("a walk sees %d bytes", size)
			}
			unregister(t, x)
			if diff := cmp.Diff(before, look(t, a)); diff != "" {
				t.Error("after it was unregistered:", diff)
			}
			if err := x.Unregister(t.Context()); !errors.Is(err, ErrUnknown) || a.External(name) != nil {
				t.Error("a second time:", err)
			}
		})
	}
}

// DPDK told of memory that was added to a heap twice (b3e735e16e).
func TestMirrorsAndWatchersHearOfExternalMemoryExactlyOnce(t *testing.T) {
	a := opened(t, linux{}, small())
	w, _ := followed(t, a)
	mem, file := filed(t, 4*somePage)
	scattered := addrs(mem, 1<<40)
	scattered[0], scattered[3] = scattered[3], scattered[0]
	var heard []string
	remove := watch(t, a, func(e Event) { heard = append(heard, fmt.Sprint(e.Kind, " ", len(e.Extents))) })
	defer remove()
	x := register(t, a, "x", ExternalOptions{Mem: mem, File: file, Offset: somePage, Addrs: scattered, Shared: true})
	if got := w.addresses(); len(got) != 4 {
		t.Errorf("the mirror has %x", got)
	}
	late, _ := followed(t, a)
	if got := late.addresses(); len(got) != 4 {
		t.Errorf("a mirror that came later has %x", got)
	}
	unregister(t, x)
	unregister(t, register(t, a, "private", ExternalOptions{Mem: mem}))
	want := []string{"allocated 4", "leaving 4", "gone 4", "allocated 1", "leaving 1", "gone 1"}
	if diff := cmp.Diff(want, heard); diff != "" {
		t.Error(diff)
	}
	for _, m := range []*witness{w, late} {
		if err := m.check(); err != nil || len(m.addresses()) > 0 {
			t.Errorf("mirror: %v, has %v", err, m)
		}
	}
	w.refuse.Store(true)
	heard = nil
	_, err := a.Register(t.Context(), "x", ExternalOptions{Mem: mem, File: file, Offset: somePage, Shared: true})
	if _, ok := errors.AsType[*RefusedError](err); !ok || !errors.Is(err, errRefused) || a.External("x") != nil || heard != nil {
		t.Errorf("refused by a mirror: %v, and events %q", err, heard)
	}
}

func TestWhatIsWrongWithExternalMemoryIsSaid(t *testing.T) {
	a := opened(t, linux{}, small())
	mem, file := filed(t, 4*somePage)
	ok := addrs(mem, 1<<40)
	odd := slices.Clone(ok)
	odd[2]++
	closed := os.NewFile(^uintptr(0)>>33, "closed")
	before := look(t, a)
	for name, c := range map[string]struct {
		name string
		o    ExternalOptions
		want error
	}{
		"no name":                   {"", ExternalOptions{Mem: mem}, ErrName},
		"a long name":               {strings.Repeat("x", MaxName+1), ExternalOptions{Mem: mem}, ErrName},
		"nil":                       {"x", ExternalOptions{}, ErrSize},
		"an odd address":            {"x", ExternalOptions{Mem: mem[64 : 64+somePage]}, ErrMisaligned},
		"an odd size":               {"x", ExternalOptions{Mem: mem[:somePage+1]}, ErrMisaligned},
		"a page that is none":       {"x", ExternalOptions{Mem: mem, Page: 3 * 1024}, ErrMisaligned},
		"less than a page":          {"x", ExternalOptions{Mem: mem[:somePage], Page: 2 << 20}, ErrMisaligned},
		"an odd offset":             {"x", ExternalOptions{Mem: mem, File: file, Offset: 17}, ErrMisaligned},
		"an offset before the file": {"x", ExternalOptions{Mem: mem, File: file, Offset: -somePage}, ErrMisaligned},
		"an offset without a file":  {"x", ExternalOptions{Mem: mem, Offset: somePage}, ErrNoFile},
		"no address of four":        {"x", ExternalOptions{Mem: mem, Addrs: ok[:0]}, ErrAddrs},
		"three addresses of four":   {"x", ExternalOptions{Mem: mem, Addrs: ok[:3]}, ErrAddrs},
		"five addresses of four":    {"x", ExternalOptions{Mem: mem, Addrs: append(ok[:4:4], 0)}, ErrAddrs},
		"an odd address of a page":  {"x", ExternalOptions{Mem: mem, Addrs: odd}, ErrMisaligned},
		"one address for two pages": {"x", ExternalOptions{Mem: mem, Addrs: append(ok[:3:3], ok[0])}, ErrOverlap},
		"a file that is closed":     {"x", ExternalOptions{Mem: mem, File: closed}, unix.EBADF},
	} {
		t.Run(name, func(t *testing.T) {
			if x, err := a.Register(t.Context(), c.name, c.o); !errors.Is(err, c.want) || x != nil {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if diff := cmp.Diff(before, look(t, a)); diff != "" || a.External("x") != nil {
				t.Error(diff)
			}
		})
	}
}

// DPDK refuses what is the same, and lets through what overlaps (27ff8384de).
func TestExternalMemoryThatOverlapsIsRefusedAndThatTouchesIsNot(t *testing.T) {
	a := opened(t, linux{}, small())
	mem := anonymous(t, 10*somePage)
	pages := func(from, to int) []byte { return mem[from*somePage : to*somePage] }
	register(t, a, "4 to 6", ExternalOptions{Mem: pages(4, 6), Addrs: addrs(pages(4, 6), 1<<40)})
	for _, r := range [][2]int{{4, 6}, {3, 5}, {5, 7}, {4, 5}, {3, 7}, {0, 10}} {
		_, err := a.Register(t.Context(), "x", ExternalOptions{Mem: pages(r[0], r[1])})
		if !errors.Is(err, ErrOverlap) {
			t.Errorf("pages %v beside 4 to 6: %v", r, err)
		}
		at := uint64(1<<40 + (r[0]-4)*somePage)
		other := anonymous(t, (r[1]-r[0])*somePage)
		if _, err = a.Register(t.Context(), "x", ExternalOptions{Mem: other, Addrs: addrs(other, at)}); !errors.Is(err, ErrOverlap) {
			t.Errorf("addresses of pages %v beside 4 to 6: %v", r, err)
		}
	}
	c := a.classes[0]
	if _, err := a.Register(t.Context(), "x", ExternalOptions{Mem: c.mem[:somePage]}); !errors.Is(err, ErrOverlap) {
		t.Errorf("memory of the arena's own: %v", err)
	}
	inside := addrs(pages(0, 1), c.first+uint64(len(c.mem))-somePage)
	if _, err := a.Register(t.Context(), "x", ExternalOptions{Mem: pages(0, 1), Addrs: inside}); !errors.Is(err, ErrOverlap) {
		t.Errorf("addresses that the arena may grow into: %v", err)
	}
	if _, err := a.Register(t.Context(), "4 to 6", ExternalOptions{Mem: pages(0, 1)}); !errors.Is(err, ErrExists) {
		t.Errorf("a name that is in use: %v", err)
	}
	register(t, a, "before", ExternalOptions{Mem: pages(3, 4), Addrs: addrs(pages(3, 4), 1<<40-somePage)})
	register(t, a, "behind", ExternalOptions{Mem: pages(6, 7), Addrs: addrs(pages(6, 7), 1<<40+2*somePage)})
}

func TestExternalMemoryWithoutAddressesIsFoundHereAndNotByDevices(t *testing.T) {
	o := small()
	o.IOVA, o.Resolver = IOVAAsPA, shuffled{}
	a := opened(t, linux{}, o)
	mem := anonymous(t, 4*somePage)
	if _, err := a.Register(t.Context(), "x", ExternalOptions{Mem: mem, Shared: true}); !errors.Is(err, ErrNoAddress) {
		t.Errorf("shared: %v", err)
	}
	x := register(t, a, "x", ExternalOptions{Mem: mem})
	e, ok := a.Lookup(x.hold.VA().Add(somePage + 1))
	if want := (memtable.Extent{VA: x.hold.VA(), Addr: memtable.NoIOVA, Size: uint64(len(mem)), FD: -1,
		Page: somePage, Node: AnyNode, Tag: Private}); !ok || e != want {
		t.Errorf("the look-up gives %+v, want %+v", e, want)
	}
	if addr, _, ok := a.Addr(x.hold.VA()); ok {
		t.Errorf("its address for devices is 0x%x", uint64(addr))
	}
	if n := len(a.ByIOVA(nil).Regions()); n != 0 {
		t.Errorf("devices find %d regions", n)
	}
	unregister(t, x)
	if _, ok := a.Lookup(e.VA); ok {
		t.Error("it is still found")
	}
}
