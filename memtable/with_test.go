package memtable_test

import (
	"errors"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

func TestWithRefusesAndLeavesTheTableAlone(t *testing.T) {
	mem := slabs()[0]
	tab := build(t, []region{{Addr: 0, Size: 0x1000, Mem: mem}, {Addr: 0x4000, Size: 0x2000, Mem: mem}}, memtable.Options{})
	one := func(a gpa, size uint64) []region { return []region{{Addr: a, Size: size, Mem: mem}} }
	for _, c := range []struct {
		name        string
		add, remove []region
		is          error
	}{
		{"add what is there", one(0, 0x1000), nil, memtable.ErrOverlap},
		{"add over the end", one(0x5fff, 2), nil, memtable.ErrOverlap},
		{"add two that overlap", append(one(0x8000, 2), one(0x8001, 1)...), nil, memtable.ErrOverlap},
		{"remove what is not there", nil, one(0x2000, 0x1000), memtable.ErrNoRegion},
		{"remove past all", nil, one(0x9000, 0x1000), memtable.ErrNoRegion},
		{"remove a part", nil, one(0x4000, 0x1000), memtable.ErrNoRegion},
		{"remove twice", nil, append(one(0, 0x1000), one(0, 0x1000)...), memtable.ErrNoRegion},
		{"remove nothing", nil, one(0, 0), memtable.ErrNoRegion},
		{"add a broken one", one(0x8000, 0), nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := tab.With(c.add, c.remove)
			if _, ok := errors.AsType[*memtable.RegionError](err); !ok || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("With: %v, want %v", err, c.is)
			}
		})
	}
	if _, ok := tab.At(0x4000, 0x2000); !ok || len(tab.Regions()) != 2 {
		t.Error("the table changed")
	}
}

func TestWithReplacesARegionInOneStep(t *testing.T) {
	a, b := slabs()[0], slabs()[1]
	tab := build(t, []region{{Size: 0x1000, Mem: a}}, memtable.Options{})
	next, err := tab.With([]region{{Size: 0x2000, Mem: b}}, tab.Regions())
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := next.At(0x1fff, 1); !ok || v != b.VA().Add(0x1fff) {
		t.Errorf("new: %v, %v", v, ok)
	}
	if v, ok := tab.At(0, 1); !ok || v != a.VA() {
		t.Errorf("old: %v, %v", v, ok)
	}
}

// Frames of another size have other leaves: none may be taken over.
func TestWithOfAnotherFrameSizeAnswersAnew(t *testing.T) {
	mem := slabs()[0]
	big := []region{{Addr: 1 << 16, Size: 1 << 16, Mem: mem}, {Addr: 1 << 36, Size: 1 << 16, Mem: mem, Skip: 1 << 16}}
	small := region{Addr: 1 << 30, Size: 4096, Mem: mem, Skip: 1 << 20}
	all := append(big, small)
	old := build(t, big, memtable.Options{IndexBytes: 4 << 20})
	next, err := old.With([]region{small}, nil)
	if err != nil {
		t.Fatal(err)
	}
	back, err := next.With(nil, []region{small})
	if err != nil {
		t.Fatal(err)
	}
	if o, n := old.Index(), next.Index(); o.Kind != "two-level" || n.Kind != "two-level" || o.Frame == n.Frame {
		t.Fatalf("indexes are %+v and %+v", o, n)
	}
	for _, r := range all {
		for a := r.Addr - 1<<16; a < r.Addr+1<<17; a += 4096 {
			compare(t, next, all, new(memtable.Window[gpa]), a, 64)
			compare(t, back, big, new(memtable.Window[gpa]), a, 64)
		}
	}
}
