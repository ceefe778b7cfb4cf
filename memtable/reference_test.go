package memtable_test

import (
	"fmt"
	"math"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// The names the tests use most.
type (
	gpa    = memtable.GPA
	region = memtable.Region[gpa]
	table  = memtable.Table[gpa]
)

// failer is what *testing.T and *rapid.T have in common.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// slabs are two mappings of address space that no test touches: big enough for
// regions of huge pages, free of charge.
var slabs = sync.OnceValue(func() [2]*memtable.Mapping {
	var two [2]*memtable.Mapping
	for i := range two {
		mem, err := unix.Mmap(-1, 0, slabSize, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
		if err != nil {
			panic(err)
		}
		two[i] = memtable.Wrap(mem, memtable.FileID{Ino: uint64(i)}, 0, fmt.Sprint("slab ", i))
	}
	return two
})

const slabSize = 1 << 30

// reference is the table that is too simple to be wrong: a list, walked from
// the front.
type reference []region

func (r reference) holds(a gpa) *region {
	for i := range r {
		if uint64(a-r[i].Addr) < r[i].Size && a >= r[i].Addr {
			return &r[i]
		}
	}
	return nil
}

// at is what Table.At has to answer.
func (r reference) at(a gpa, n uint64) (memtable.VA, bool) {
	in := r.holds(a)
	if in == nil || n > in.Size-uint64(a-in.Addr) {
		return memtable.VA{}, false
	}
	return in.Mem.VA().Add(in.Skip + uint64(a-in.Addr)), true
}

// span is what Table.Span has to answer.
func (r reference) span(a gpa, n uint64) (v memtable.VA, length uint64, ok bool) {
	in := r.holds(a)
	if in == nil || n > 0 && uint64(a) > math.MaxUint64-(n-1) {
		return v, 0, false
	}
	v, length = in.Mem.VA().Add(in.Skip+uint64(a-in.Addr)), in.Size-uint64(a-in.Addr)
	for length < n {
		next := r.holds(a + gpa(length))
		if next == nil {
			return memtable.VA{}, 0, false
		}
		if next.Mem != in.Mem || next.Skip != in.Skip+in.Size {
			return v, length, true
		}
		in, length = next, length+next.Size
	}
	return v, n, true
}

// pieces is what Table.Append has to answer.
func (r reference) pieces(a gpa, n uint64) (all [][]byte, ok bool) {
	for {
		v, length, ok := r.span(a, n)
		if !ok {
			return nil, false
		}
		if length > 0 {
			all = append(all, v.Bytes(length))
		}
		if length == n {
			return all, true
		}
		a, n = a+gpa(length), n-length
	}
}

// compare asks tab and the reference the same question in every way there is.
// w is carried over from question to question.
func compare(t failer, tab *table, ref reference, w *memtable.Window[gpa], a gpa, n uint64) {
	t.Helper()
	want, wantOK := ref.at(a, n)
	if v, ok := tab.At(a, n); v != want || ok != wantOK {
		t.Fatalf("At(0x%x, 0x%x) = %v, %v; want %v, %v (index %+v)", a, n, v, ok, want, wantOK, tab.Index())
	}
	if v, ok := w.At(tab, a, n); v != want || ok != wantOK {
		t.Fatalf("Window.At(0x%x, 0x%x) = %v, %v; want %v, %v", a, n, v, ok, want, wantOK)
	}
	fresh := tab.Window(a)
	if v, ok := fresh.At(tab, a, n); v != want || ok != wantOK {
		t.Fatalf("Window(a).At(0x%x, 0x%x) = %v, %v; want %v, %v", a, n, v, ok, want, wantOK)
	}
	v, length, err := tab.Span(a, n)
	wantV, wantLength, ok := ref.span(a, n)
	if v != wantV || length != wantLength || (err == nil) != ok {
		t.Fatalf("Span(0x%x, 0x%x) = %v, 0x%x, %v; want %v, 0x%x, %v", a, n, v, length, err, wantV, wantLength, ok)
	}
	compareAppend(t, tab, ref, a, n)
}

func compareAppend(t failer, tab *table, ref reference, a gpa, n uint64) {
	t.Helper()
	before := [][]byte{{1}}
	got, err := tab.Append(before, a, n)
	want, ok := ref.pieces(a, n)
	if (err == nil) != ok {
		t.Fatalf("Append(0x%x, 0x%x): %v, want ok = %v", a, n, err, ok)
	}
	if len(got) != 1+len(want) || got[0][0] != 1 {
		t.Fatalf("Append(0x%x, 0x%x) gave %d pieces, want %d", a, n, len(got)-1, len(want))
	}
	for i, p := range want {
		if g := got[1+i]; &g[0] != &p[0] || len(g) != len(p) {
			t.Fatalf("Append(0x%x, 0x%x): piece %d is %p+%d, want %p+%d", a, n, i, g, len(g), p, len(p))
		}
	}
}

// build is New for tables that must be good.
func build(t failer, regions []region, o memtable.Options) *table {
	t.Helper()
	tab, err := memtable.New(regions, o)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// The bounds on the index that tests try: none at all, the usual one, and one
// that every flat index of a small span fits into.
var indexes = []memtable.Options{{IndexBytes: -1}, {}, {IndexBytes: 8 << 20}}
