package memfd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vhostd/vhostd/memtable"
)

// zoned makes a zone that is freed with the test.
func zoned(t testing.TB, a *Arena, name string, o ZoneOptions) *Zone {
	t.Helper()
	z, err := a.Zone(t.Context(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func unzoned(t testing.TB, all ...*Zone) {
	t.Helper()
	for _, z := range all {
		if err := z.Free(); err != nil {
			t.Fatal(err)
		}
	}
}

// crosses tells whether a multiple of bound lies inside.
func crosses(z *Zone, bound uint64) bool {
	first := numberOf(z.VA)
	return first/bound != (first+z.Size-1)/bound
}

func TestZonesAreAlignedBoundedAndApart(t *testing.T) {
	a := opened(t, linux{}, small())
	var all []*Zone
	for i, o := range []ZoneOptions{
		{Size: 100}, {Size: 100, Align: 32}, {Size: 100, Align: 128}, {Size: 100, Align: 256}, {Size: 100, Align: 512},
		{Size: 100, Align: 1024}, {Size: 100, Align: 128, Bound: 128}, {Size: 100, Align: 256, Bound: 128},
		{Size: 100, Bound: 1024}, {Size: 1000, Bound: 1024}, {Size: 20 << 10, Bound: 32 << 10},
		{Size: 40 << 10, Bound: 64 << 10}, {Size: 64, Align: 64 << 10},
	} {
		z := zoned(t, a, fmt.Sprint(i), o)
		if numberOf(z.VA)%max(o.Align, 64) != 0 || uint64(z.Addr)%max(o.Align, 64) != 0 || z.Size%64 != 0 || z.Size < o.Size ||
			o.Bound != 0 && crosses(z, o.Bound) {
			t.Errorf("%+v for %+v", z, o)
		}
		for _, other := range all {
			if numberOf(z.VA) < numberOf(other.VA)+other.Size && numberOf(other.VA) < numberOf(z.VA)+z.Size {
				t.Errorf("%+v overlaps %+v", z, other)
			}
		}
		all = append(all, z)
	}
	unzoned(t, all...)
}

func TestZonesMayBeBoundedAboveTheExtent(t *testing.T) {
	f := plainFake(t, 64)
	s := newStore(f, "zones", true, true, -1)
	for lead := range uint64(4) { // from any extent on
		r := request{size: 3 * fakeUnit, align: quantum, bound: 4 * fakeUnit, node: AnyNode}
		l, err := s.take(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if crosses(&Zone{VA: l.va, Size: l.size}, r.bound) {
			t.Errorf("%+v", l)
		}
		// What is left over, and some more, is taken.
		for greatest := uint64(1); greatest > 0; greatest = s.chunks.greatest(&r) {
			r = request{size: max(greatest, quantum), align: quantum, node: AnyNode}
			if _, err := s.take(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.grow(t.Context(), growth{size: (lead + 1) * fakeUnit, node: AnyNode}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestZonesThatNobodyCanMakeAreErrors(t *testing.T) {
	a := opened(t, linux{}, small())
	lead := zoned(t, a, "lead", ZoneOptions{Size: 64})
	for name, o := range map[string]ZoneOptions{
		"no size": {}, "align 100": {Size: 100, Align: 100}, "all of it": {Size: math.MaxUint64},
		"bound that is no power": {Size: 100, Bound: math.MaxUint32}, "bound below": {Size: 100, Bound: 32},
		"bound below the rounded size": {Size: 65, Bound: 64},
	} {
		if z, err := a.Zone(t.Context(), name, o); !errors.Is(err, ErrSize) {
			t.Errorf("%s: %+v, %v", name, z, err)
		}
	}
	for _, name := range []string{"", strings.Repeat("x", MaxName+1)} {
		if _, err := a.Zone(t.Context(), name, ZoneOptions{Size: 64}); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := a.Zone(t.Context(), "lead", ZoneOptions{Size: 64}); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	for _, o := range []ZoneOptions{{Size: 2 << 20}, {Size: 64, Page: 1 << 30}} {
		_, err := a.Zone(t.Context(), "short", o)
		if _, short := errors.AsType[*ShortageError](err); !short {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if got := a.Zones(); !slices.Equal(got, []*Zone{lead}) || a.FindZone("short") != nil {
		t.Errorf("failed zones are found: %v", got)
	}
	unzoned(t, lead)
}

func TestZonesAreFoundByNameUntilTheyAreFreed(t *testing.T) {
	a := opened(t, linux{}, small())
	b, c := zoned(t, a, "b", ZoneOptions{Size: 100}), zoned(t, a, "a", ZoneOptions{Size: 100})
	if a.FindZone("b") != b || a.FindZone("c") != nil || !slices.Equal(a.Zones(), []*Zone{c, b}) {
		t.Error("zones are not found:", a.Zones())
	}
	for i := range b.VA.Bytes(b.Size) {
		b.VA.Bytes(b.Size)[i] = 1
	}
	unzoned(t, b)
	if err := b.Free(); !errors.Is(err, ErrFreed) {
		t.Error("a second time:", err)
	}
	if a.FindZone("b") != nil {
		t.Error("it is found when it is gone")
	}
	again := zoned(t, a, "b", ZoneOptions{Size: 100})
	if bytes.Count(again.VA.Bytes(again.Size), []byte{0}) != int(again.Size) {
		t.Error("a zone is not zero")
	}
	if err := b.Free(); !errors.Is(err, ErrFreed) || a.FindZone("b") != again {
		t.Error("the old zone frees the new one:", err)
	}
	if err := a.Close(); !errors.Is(err, ErrBusy) {
		t.Error("the arena closed with zones in it:", err)
	}
	unzoned(t, again, c)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if _, err := a.Zone(t.Context(), "late", ZoneOptions{Size: 100}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestAnArenaThatIsBeingClosedHasNoNewZones(t *testing.T) {
	a := opened(t, linux{}, small())
	h, err := a.Heap("test", HeapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b := lend(t, h, 64, 0)
	if err := a.Close(); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if _, err := a.Zone(t.Context(), "late", ZoneOptions{Size: 100}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	freed(t, h, b)
}

func TestTheNumberOfZonesIsLimited(t *testing.T) {
	a := opened(t, linux{}, small())
	var all []*Zone
	for i := range MaxZones {
		all = append(all, zoned(t, a, fmt.Sprint(i), ZoneOptions{Size: 64}))
	}
	_, err := a.Zone(t.Context(), "one more", ZoneOptions{Size: 64})
	if _, short := errors.AsType[*ShortageError](err); !short {
		t.Error(err)
	}
	unzoned(t, all[0])
	all[0] = zoned(t, a, "one more", ZoneOptions{Size: 64})
	unzoned(t, all...)
	if got := a.Zones(); len(got) != 0 {
		t.Errorf("%d zones are left", len(got))
	}
}

func TestTheBiggestZoneIsWhatIsVacantAndTakesNothingNew(t *testing.T) {
	a := opened(t, linux{}, small())
	_, err := a.Zone(t.Context(), "none", ZoneOptions{Biggest: true})
	if _, short := errors.AsType[*ShortageError](err); !short {
		t.Error(err)
	}
	low := zoned(t, a, "low", ZoneOptions{Size: 1000})
	high := zoned(t, a, "high", ZoneOptions{Size: 64, Align: 8 << 10})
	before := len(a.Extents())
	if _, err = a.Zone(t.Context(), "too much", ZoneOptions{Biggest: true, Size: 8 << 10}); err == nil {
		t.Error("there were not so many bytes in one piece")
	}
	if z := zoned(t, a, "bounded", ZoneOptions{Biggest: true, Align: 64, Bound: 1024}); z.Size != 1024 || crosses(z, 1024) {
		t.Errorf("%+v", z)
	} else {
		unzoned(t, z)
	}
	if z := zoned(t, a, "biggest", ZoneOptions{Biggest: true, Size: 100}); z.Size != 8<<10-64 || numberOf(z.VA) != numberOf(high.VA)+64 {
		t.Errorf("%+v", z)
	} else {
		unzoned(t, z)
	}
	if len(a.Extents()) != before {
		t.Error("the arena grew")
	}
	unzoned(t, low, high)
}

func TestBiggestIsWhatCouldBeLent(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := plainFake(t, 8)
		s := newStore(f, "zones", true, true, -1)
		for range rapid.IntRange(1, 8).Draw(rt, "holes") {
			size := rapid.Uint64Range(1, 20<<10).Draw(rt, "size")
			r := request{size: up(size, quantum), align: quantum, node: AnyNode}
			l, err := s.take(t.Context(), r)
			if err == nil && rapid.Bool().Draw(rt, "free") {
				err = s.give(l.va, l.token)
			}
			if err != nil {
				break // full
			}
		}
		r := request{size: quantum, align: 64 << rapid.IntRange(0, 10).Draw(rt, "align"), node: AnyNode}
		if rapid.Bool().Draw(rt, "bounded") {
			r.bound = 64 << rapid.IntRange(0, 10).Draw(rt, "bound")
		}
		// The reference asks for every size, in all that is not lent.
		want := uint64(0)
		s.chunks.clearShelf()
		for n := uint64(quantum); n <= 8*fakeUnit && (r.bound == 0 || n <= r.bound); n += quantum {
			try := r
			try.size = n
			if i, _ := s.chunks.find(&try); i != 0 {
				want = n
			}
		}
		l, err := s.takeBiggest(r)
		if want == 0 && err == nil || want > 0 && (err != nil || l.size != want || numberOf(l.va)%r.align != 0) {
			rt.Fatalf("%+v, %v: %d bytes could be lent to %+v", l, err, want, r)
		}
	})
}

// inFours resolves addresses so that four pages follow one another.
type inFours struct{}

func (inFours) Resolve(v memtable.VA, n uint64) (memtable.PA, uint64, error) {
	at := numberOf(v)
	run := at >> 14
	return memtable.PA(run<<20 | at&(1<<14-1)), min(n, 1<<14-at&(1<<14-1)), nil
}

func TestContiguousZonesAreSoForDevices(t *testing.T) {
	a := opened(t, linux{}, Options{Name: "test", NoHuge: true, Space: 1 << 20, Linger: -1, IOVA: IOVAAsPA, Resolver: inFours{}})
	loose := zoned(t, a, "loose", ZoneOptions{Size: 64 << 10})
	if addr, n, ok := a.iova(loose.VA); !ok || loose.Addr != addr || n >= loose.Size {
		t.Errorf("%+v is at %x for %d bytes: the test needs it scattered", loose, addr, n)
	}
	var all []*Zone
	for i := range 5 {
		z := zoned(t, a, fmt.Sprint(i), ZoneOptions{Size: 6 << 10, Contiguous: true})
		all = append(all, z)
		if addr, n, ok := a.iova(z.VA); !ok || z.Addr != addr || n < z.Size {
			t.Errorf("%+v is at %x for %d bytes", z, addr, n)
		}
	}
	_, err := a.Zone(t.Context(), "wide", ZoneOptions{Size: 17 << 10, Contiguous: true})
	if _, short := errors.AsType[*ShortageError](err); !short {
		t.Error("there are no 17 KiB in one piece:", err)
	}
	unzoned(t, append(all, loose)...)
}

func TestMirrorsHaveAZoneBeforeItsMaker(t *testing.T) {
	a := opened(t, linux{}, small())
	w := newWitness(a)
	stop, err := a.Follow(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	z := zoned(t, a, "ring", ZoneOptions{Size: 20 << 10})
	if got := w.addresses(); len(got) != 2 || got[0] != numberOf(z.VA)&^(16<<10-1) {
		t.Errorf("the mirror knows %x", got)
	}
	w.refuse.Store(true)
	if _, err := a.Zone(context.Background(), "refused", ZoneOptions{Size: 40 << 10}); !errors.Is(err, errRefused) {
		t.Error(err)
	}
	unzoned(t, z)
	if err := errors.Join(stop(t.Context()), w.check()); err != nil {
		t.Error(err)
	}
}
