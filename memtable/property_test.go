package memtable_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vhostd/vhostd/memtable"
)

// layout draws regions: in units from a byte to a huge page, touching or with
// gaps, some contiguous here too, now and then far away, from 0 up to 2^64.
func layout(t *rapid.T) []region {
	unit := uint64(1) << rapid.SampledFrom([]int{0, 4, 12, 12, 16, 21}).Draw(t, "unit")
	units := func(label string, low, high uint64) uint64 {
		return unit * rapid.Uint64Range(low, high).Draw(t, label)
	}
	var all []region
	var next uint64 // free from here on
	for range rapid.IntRange(0, 12).Draw(t, "regions") {
		size := units("size", 1, 8)
		gap := units("gap", 0, 3)
		switch rapid.IntRange(0, 15).Draw(t, "jump") {
		case 0:
			gap += 1 << 34 // too far for a flat index of small frames
		case 1:
			if top := -size; top >= next { // ends at 2^64 exactly
				gap = top - next
			}
		}
		addr := next + gap
		if addr < next || size-1 > math.MaxUint64-addr {
			break
		}
		r := region{Addr: gpa(addr), Size: size, Mem: slabs()[rapid.IntRange(0, 1).Draw(t, "slab")]}
		r.Skip = units("skip", 0, 64)
		if n := len(all); n > 0 && rapid.Bool().Draw(t, "follow") {
			r.Mem, r.Skip = all[n-1].Mem, all[n-1].Skip+all[n-1].Size
		}
		all = append(all, r)
		if next = addr + size; next == 0 {
			break
		}
	}
	return all
}

// question draws a range, near the bounds of regions and of frames, where
// mistakes live.
func question(t *rapid.T, regions []region) (a gpa, n uint64) {
	if len(regions) == 0 {
		return gpa(rapid.Uint64().Draw(t, "addr")), rapid.Uint64().Draw(t, "n")
	}
	r := regions[rapid.IntRange(0, len(regions)-1).Draw(t, "region")]
	a = r.Addr
	switch rapid.IntRange(0, 3).Draw(t, "where") {
	case 0:
		a += gpa(r.Size)
	case 1:
		a += gpa(rapid.Uint64Range(0, r.Size-1).Draw(t, "offset"))
	case 2:
		a += gpa(rapid.Uint64Range(0, r.Size-1).Draw(t, "offset") &^ 4095)
	}
	a += gpa(rapid.Int64Range(-2, 2).Draw(t, "by"))
	left := r.Size - uint64(a-r.Addr)
	n = rapid.SampledFrom([]uint64{0, 1, 2, 16, 4096, left, left + 1, left - 1, r.Size, 3 * r.Size, 1 << 32,
		math.MaxUint64, -uint64(a), -uint64(a) + 1}).Draw(t, "n")
	return a, n
}

func TestEveryLookUpAgreesWithAWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		regions := layout(t)
		shuffled := rapid.Permutation(regions).Draw(t, "order")
		var tabs []*table
		for _, o := range indexes {
			tabs = append(tabs, build(t, shuffled, o))
		}
		windows := make([]memtable.Window[gpa], len(tabs))
		for range 20 {
			a, n := question(t, regions)
			for i, tab := range tabs {
				compare(t, tab, regions, &windows[i], a, n)
			}
		}
		if !slices.Equal(tabs[0].Regions(), regions) {
			t.Fatalf("Regions() = %v, want %v", tabs[0].Regions(), regions)
		}
	})
}

func TestReverseLeadsBackToTheByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		regions := layout(t)
		tab := build(t, regions, memtable.Options{})
		for range 20 {
			mem := slabs()[rapid.IntRange(0, 1).Draw(t, "slab")]
			off := rapid.Uint64Range(0, 1<<28-1).Draw(t, "offset")
			if len(regions) > 0 && rapid.Bool().Draw(t, "near") {
				r := rapid.SampledFrom(regions).Draw(t, "region")
				mem = r.Mem
				off = r.Skip + rapid.SampledFrom([]uint64{0, 1, r.Size / 2, r.Size - 1, r.Size}).Draw(t, "at")
			}
			checkReverse(t, tab, regions, mem, off)
		}
	})
}

// checkReverse takes any region that shows the byte for an answer.
func checkReverse(t *rapid.T, tab *table, regions reference, mem *memtable.Mapping, off uint64) {
	v := mem.VA().Add(off)
	a, n, ok := tab.Reverse(v)
	shown := slices.ContainsFunc(regions, func(r region) bool {
		return r.Mem == mem && off >= r.Skip && off-r.Skip < r.Size
	})
	if ok != shown {
		t.Fatalf("Reverse(%v): ok = %v, want %v", v, ok, shown)
	}
	if !ok {
		return
	}
	if back, ok := regions.at(a, n); !ok || back != v {
		t.Fatalf("Reverse(%v) = 0x%x, 0x%x, which is %v, %v", v, a, n, back, ok)
	}
	if _, ok := regions.at(a, n+1); ok {
		t.Fatalf("Reverse(%v) = 0x%x, 0x%x, but the region goes on", v, a, n)
	}
}

func TestWithIsANewTableOfTheSameRegions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := layout(t)
		o := rapid.SampledFrom(indexes).Draw(t, "index")
		in := make([]bool, len(all)) // is all[i] in tab?
		tab := build(t, nil, o)
		for range 6 {
			var add, remove, now []region
			for i, r := range all {
				was := in[i]
				in[i] = was != (rapid.IntRange(0, 2).Draw(t, "flip") == 0)
				switch {
				case in[i] && !was:
					add = append(add, r)
				case was && !in[i]:
					remove = append(remove, region{Addr: r.Addr, Size: r.Size})
				}
				if in[i] {
					now = append(now, r)
				}
			}
			before := slices.Clone(tab.Regions())
			next, err := tab.With(rapid.Permutation(add).Draw(t, "add"), rapid.Permutation(remove).Draw(t, "remove"))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := next.Index(), build(t, now, o).Index(); got != want {
				t.Fatalf("the index is %+v, a new table has %+v", got, want)
			}
			// The old generation must go on as if nothing had happened.
			for range 8 {
				a, n := question(t, all)
				compare(t, next, now, new(memtable.Window[gpa]), a, n)
				compare(t, tab, before, new(memtable.Window[gpa]), a, n)
			}
			tab = next
		}
	})
}
