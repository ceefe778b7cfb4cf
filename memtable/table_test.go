package memtable_test

import (
	"errors"
	"math"
	"runtime"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

func TestBoundsOfARegionAreExact(t *testing.T) {
	const addr, size = 0x10000, 0x3000
	one := []region{{Addr: addr, Size: size, Mem: slabs()[0], Skip: 0x5000}}
	for _, q := range []struct {
		name string
		a    gpa
		n    uint64
		ok   bool
	}{
		{"first byte", addr, 1, true},
		{"last byte", addr + size - 1, 1, true},
		{"the whole", addr, size, true},
		{"over two frames", addr + 0xfff, 2, true},
		{"up to a frame's end", addr + 0x1000, 0x1000, true},
		{"nothing at the first byte", addr, 0, true},
		{"nothing at the last byte", addr + size - 1, 0, true},
		{"nothing past the end", addr + size, 0, false},
		{"byte before", addr - 1, 1, false},
		{"byte after", addr + size, 1, false},
		{"into it from before", addr - 1, 2, false},
		{"one past the end", addr, size + 1, false},
		{"one past the end, from the last byte", addr + size - 1, 2, false},
		{"up to 2^64", addr, math.MaxUint64 - addr + 1, false},
		{"round to where it began", addr, math.MaxUint64, false},
		{"far away", 1 << 60, 1, false},
	} {
		t.Run(q.name, func(t *testing.T) {
			for _, o := range indexes {
				tab := build(t, one, o)
				compare(t, tab, one, new(memtable.Window[gpa]), q.a, q.n)
				if _, ok := tab.At(q.a, q.n); ok != q.ok {
					t.Errorf("At = %v with %+v", ok, tab.Index())
				}
			}
		})
	}
}

func TestEmptyTableHasNothing(t *testing.T) {
	tab := build(t, nil, memtable.Options{})
	for _, a := range []gpa{0, 1, 4096, 1 << 63, math.MaxUint64} {
		for _, n := range []uint64{0, 1, math.MaxUint64} {
			compare(t, tab, nil, new(memtable.Window[gpa]), a, n)
		}
	}
	if _, _, ok := tab.Reverse(slabs()[0].VA()); ok {
		t.Error("Reverse found something")
	}
	if _, _, ok := tab.Reverse(memtable.VA{}); ok {
		t.Error("Reverse found nil")
	}
}

func TestPiecesEndWhereMemoryIsElsewhere(t *testing.T) {
	a, b := slabs()[0], slabs()[1]
	tab := build(t, []region{
		{Addr: 0x0000, Size: 0x1000, Mem: a, Skip: 0x2000},
		{Addr: 0x1000, Size: 0x1000, Mem: a, Skip: 0x3000}, // goes on here too
		{Addr: 0x2000, Size: 0x1000, Mem: a, Skip: 0x8000}, // touches there only
		{Addr: 0x3000, Size: 0x1000, Mem: b},
		{Addr: 0x5000, Size: 0x1000, Mem: b, Skip: 0x1000}, // after a hole
	}, memtable.Options{})
	pieces, err := tab.Append(nil, 0x800, 0x3000)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		from memtable.VA
		size int
	}{{a.VA().Add(0x2800), 0x1800}, {a.VA().Add(0x8000), 0x1000}, {b.VA(), 0x800}} {
		if &pieces[i][0] != &want.from.Bytes(1)[0] || len(pieces[i]) != want.size {
			t.Errorf("piece %d is %p+0x%x, want %v+0x%x", i, pieces[i], len(pieces[i]), want.from, want.size)
		}
	}
	var hole *memtable.RangeError
	if _, err := tab.Append(nil, 0x800, 0x3801); !errors.As(err, &hole) || hole.Addr != 0x800 || hole.Size != 0x3801 {
		t.Errorf("into the hole: %v", err)
	}
	if v, ok := tab.At(0xfff, 2); ok {
		t.Errorf("At over two regions = %v, want none even though they are contiguous", v)
	}
}

// Two mappings may lie side by side here by chance. Each has its own life and
// its own owner, so no piece may run from one into the other.
func TestPiecesEndWithTheirMapping(t *testing.T) {
	mem := make([]byte, 8192)
	first := memtable.Wrap(mem[:4096], memtable.FileID{}, 0, 1)
	second := memtable.Wrap(mem[4096:], memtable.FileID{}, 0, 2)
	tab := build(t, []region{{Size: 4096, Mem: first}, {Addr: 4096, Size: 4096, Mem: second}}, memtable.Options{})
	if pieces, err := tab.Append(nil, 0, 8192); err != nil || len(pieces) != 2 {
		t.Errorf("%d pieces, %v; want 2", len(pieces), err)
	}
}

func TestNewRefusesWhatNoPeerShouldSend(t *testing.T) {
	mem := slabs()[0]
	for _, c := range []struct {
		name    string
		regions []region
		is      error
	}{
		{"empty", []region{{Addr: 1, Mem: mem}}, nil},
		{"no mapping", []region{{Size: 1}}, nil},
		{"past 2^64", []region{{Addr: math.MaxUint64, Size: 2, Mem: mem}}, nil},
		{"longer than the mapping", []region{{Size: slabSize + 1, Mem: mem}}, nil},
		{"skip past the mapping", []region{{Size: 2, Mem: mem, Skip: slabSize - 1}}, nil},
		{"skip wraps", []region{{Size: 2, Mem: mem, Skip: math.MaxUint64}}, nil},
		{"same twice", []region{{Size: 1, Mem: mem}, {Size: 1, Mem: mem}}, memtable.ErrOverlap},
		{"last byte", []region{{Addr: 4095, Size: 1, Mem: mem}, {Size: 4096, Mem: mem}}, memtable.ErrOverlap},
		{"one within", []region{{Size: 4096, Mem: mem}, {Addr: 1024, Size: 1, Mem: mem}}, memtable.ErrOverlap},
		{"at the top", []region{{Addr: math.MaxUint64, Size: 1, Mem: mem}, {Addr: math.MaxUint64 - 4095, Size: 4096, Mem: mem}}, memtable.ErrOverlap},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := memtable.New(c.regions, memtable.Options{})
			if e, ok := errors.AsType[*memtable.RegionError](err); !ok || e.Kind != "GPA" {
				t.Fatalf("New: %v, want a RegionError", err)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Fatalf("New: %v, want %v", err, c.is)
			}
		})
	}
}

func TestRegionMayEndAtTheTop(t *testing.T) {
	const size = 0x2000
	top := []region{{Addr: math.MaxUint64 - size + 1, Size: size, Mem: slabs()[0]}}
	for _, o := range indexes {
		tab := build(t, top, o)
		for _, q := range []struct {
			a gpa
			n uint64
		}{{math.MaxUint64, 1}, {math.MaxUint64, 2}, {math.MaxUint64 - size + 1, size}, {math.MaxUint64 - size + 1, size + 1}, {0, 1}} {
			compare(t, tab, top, new(memtable.Window[gpa]), q.a, q.n)
		}
	}
}

func TestIndexIsWhatFits(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	far := func(a gpa) []region {
		return []region{{Addr: 0, Size: 4096, Mem: slabs()[0]}, {Addr: a, Size: 4096, Mem: slabs()[1]}}
	}
	for _, c := range []struct {
		name    string
		regions []region
		bytes   int
		want    memtable.IndexInfo
	}{
		{"nothing", nil, 0, memtable.IndexInfo{Kind: "flat", Frame: 4096}},
		{"one GiB at 0", []region{{Size: gib, Mem: slabs()[0]}}, 0, memtable.IndexInfo{Kind: "flat", Frame: gib, Bytes: 16}},
		{"hole below 1 MiB", []region{{Size: 0xa0000, Mem: slabs()[0]}, {Addr: 0xc0000, Size: gib - 0xc0000, Mem: slabs()[1]}}, 0,
			memtable.IndexInfo{Kind: "flat", Frame: 0x20000, Bytes: 8 * (gib/0x20000 + 1)}},
		{"bytes", []region{{Addr: 1, Size: 4095, Mem: slabs()[0]}}, 0, memtable.IndexInfo{Kind: "flat", Frame: 4096, Bytes: 16}},
		{"8 GiB apart", far(8 * gib), 0, memtable.IndexInfo{Kind: "two-level", Frame: 4096, Bytes: 8*(8*gib>>21+1) + 2*4096}},
		{"8 GiB apart, two of one leaf", append(far(8*gib), region{Addr: 8192, Size: 4096, Mem: slabs()[0], Skip: 4096}), 0,
			memtable.IndexInfo{Kind: "two-level", Frame: 4096, Bytes: 8*(8*gib>>21+1) + 2*4096}},
		{"8 GiB apart, much memory", far(8 * gib), 32 * mib, memtable.IndexInfo{Kind: "flat", Frame: 4096, Bytes: 8 * (8*gib>>12 + 2)}},
		{"8 GiB apart, little memory", far(8 * gib), mib / 32, memtable.IndexInfo{Kind: "search"}},
		{"8 GiB apart, no memory", far(8 * gib), -1, memtable.IndexInfo{Kind: "search"}},
		{"both ends", far(math.MaxUint64 - 4095), 0, memtable.IndexInfo{Kind: "search"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab := build(t, c.regions, memtable.Options{IndexBytes: c.bytes})
			if got := tab.Index(); got != c.want {
				t.Errorf("Index() = %+v, want %+v", got, c.want)
			}
			for _, r := range c.regions {
				for _, a := range []gpa{r.Addr, r.Addr + 1, r.Addr + gpa(r.Size) - 1, r.Addr + gpa(r.Size)} {
					compare(t, tab, c.regions, new(memtable.Window[gpa]), a, 1)
				}
			}
		})
	}
}

func TestHostileLayoutCostsNoMemory(t *testing.T) {
	fd := memfd(t, 8<<40+4096)
	sparse, err := memtable.MapFile(fd, 0, 8<<40+4096, memtable.MapOptions{})
	if err != nil {
		t.Skip("no address space for 8 TiB:", err)
	}
	defer sparse.Close()
	for name, regions := range map[string][]region{
		"8 TiB in odd frames": {{Addr: 4096, Size: 8<<40 + 4096, Mem: sparse}},
		"8 TiB from byte 1":   {{Addr: 1, Size: 8 << 40, Mem: sparse, Skip: 1}},
		"both ends":           {{Size: 1, Mem: sparse}, {Addr: math.MaxUint64, Size: 1, Mem: sparse}},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			tab := build(t, regions, memtable.Options{})
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > 64<<10 {
				t.Errorf("the table took %d bytes", got)
			}
			for _, r := range regions {
				compare(t, tab, regions, new(memtable.Window[gpa]), r.Addr+gpa(r.Size-1), 1)
			}
		})
	}
}

func TestLookUpsAllocateNothing(t *testing.T) {
	regions := []region{{Size: 1 << 20, Mem: slabs()[0]}, {Addr: 1 << 33, Size: 4096, Mem: slabs()[1]}}
	for _, o := range []memtable.Options{{IndexBytes: 64 << 20}, {}, {IndexBytes: -1}} {
		tab := build(t, regions, o)
		got := testing.AllocsPerRun(100, func() {
			var w memtable.Window[gpa]
			for _, a := range []gpa{0, 4095, 1 << 33, 1 << 40} {
				tab.At(a, 2)
				w.At(tab, a, 2)
			}
			if _, _, err := tab.Span(4095, 2); err != nil {
				panic(err)
			}
		})
		if got != 0 {
			t.Errorf("%s: %v allocations", tab.Index().Kind, got)
		}
	}
}
