package memtable

import (
	"errors"
	"math/bits"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

const huge = 2 << 20

// pagesOf gives runs of 2 MiB pages of a file that is mapped at base.
func pagesOf(file, base uint64, pages ...uint64) (runs []Run) {
	for _, i := range pages {
		runs = append(runs, Run{File: FileID{Ino: file}, Offset: i * huge, Addr: base + i*huge, Size: huge})
	}
	return runs
}

func TestPlanKeepsTheLargestGapsOpen(t *testing.T) {
	runs := append(pagesOf(1, 1<<40, 0, 1, 2, 100, 101, 5000), pagesOf(2, 1<<41, 0, 40)...)
	for _, c := range []struct {
		regions int
		want    int
		waste   uint64 // pages
	}{{8, 5, 0}, {5, 5, 0}, {4, 4, 39}, {3, 3, 39 + 97}, {2, 2, 39 + 97 + 4898}} {
		p, err := MakePlan(runs, c.regions, huge)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Regions) != c.want || p.Waste() != c.waste*huge {
			t.Errorf("%d regions allowed: %d used with %d pages wasted, want %d and %d",
				c.regions, len(p.Regions), p.Waste()/huge, c.want, c.waste)
		}
	}
	var fit *PlanError
	if _, err := MakePlan(runs, 1, huge); !errors.As(err, &fit) || fit.Needed != 2 {
		t.Errorf("two files in one region: %v", err)
	}
}

func TestPlanBeginsWhereUseBegins(t *testing.T) {
	p, err := MakePlan(pagesOf(1, 1<<40, 5, 6, 7), 8, huge)
	if err != nil {
		t.Fatal(err)
	}
	want := []Run{{File: FileID{Ino: 1}, Offset: 5 * huge, Addr: 1<<40 + 5*huge, Size: 3 * huge}}
	if !reflect.DeepEqual(p.Regions, want) {
		t.Errorf("%+v", p.Regions)
	}
}

func TestPlanRefusesWhatCannotBeShared(t *testing.T) {
	page := Run{File: FileID{Ino: 1}, Addr: 1 << 30, Size: 4096}
	for name, runs := range map[string][]Run{
		"overlap":          {page, {File: FileID{Ino: 1}, Offset: 2048, Addr: 1<<30 + 2048, Size: 4096}},
		"empty":            {{File: FileID{Ino: 1}, Addr: 1 << 30}},
		"wrap":             {{File: FileID{Ino: 1}, Addr: 1<<64 - 4096, Size: 8192}},
		"page of two":      {{File: FileID{Ino: 1}, Addr: 1 << 30, Size: 100}, {File: FileID{Ino: 2}, Offset: 200, Addr: 1<<30 + 200, Size: 100}},
		"not as in a page": {{File: FileID{Ino: 1}, Offset: 1, Addr: 1 << 30, Size: 4096}},
	} {
		var refused *RegionError
		if p, err := MakePlan(runs, 8, 4096); !errors.As(err, &refused) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

// TestPlanIsTheLeastOfAll holds MakePlan to every choice of gaps, and to any
// order of its runs.
func TestPlanIsTheLeastOfAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var runs []Run
		addr := uint64(1 << 30)
		for range rapid.IntRange(1, 9).Draw(t, "runs") {
			addr += 4096 * uint64(rapid.SampledFrom([]int{0, 1, 2, 3, 50}).Draw(t, "gap"))
			file := rapid.Uint64Range(1, 2).Draw(t, "file")
			size := 4096 * uint64(rapid.IntRange(1, 3).Draw(t, "pages"))
			runs = append(runs, Run{File: FileID{Ino: file}, Offset: addr - 1<<30, Addr: addr, Size: size})
			addr += size
		}
		limit := rapid.IntRange(1, 9).Draw(t, "regions")
		p, err := MakePlan(runs, limit, 4096)
		want, possible := least(runs, limit)
		var fit *PlanError
		switch {
		case possible != (err == nil), err != nil && !errors.As(err, &fit):
			t.Fatalf("possible: %v, error: %v", possible, err)
		case err != nil:
			return
		case len(p.Regions) > limit || p.Waste() != want:
			t.Fatalf("%d regions waste %d, the least is %d", len(p.Regions), p.Waste(), want)
		}
		for _, r := range runs {
			if n := len(slices.DeleteFunc(slices.Clone(p.Regions), func(o Run) bool {
				return !o.level(r) || r.Addr < o.Addr || r.end() > o.end()
			})); n != 1 {
				t.Fatalf("run %+v lies in %d regions", r, n)
			}
		}
		rand.Shuffle(len(runs), func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
		if again, err := MakePlan(runs, limit, 4096); err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("in another order: %+v, %v", again, err)
		}
	})
}

// least tries every set of gaps to close.
func least(runs []Run, limit int) (waste uint64, possible bool) {
	for set := range 1 << (len(runs) - 1) {
		if len(runs)-bits.OnesCount(uint(set)) > limit {
			continue
		}
		sum, ok := uint64(0), true
		for i := 1; i < len(runs); i++ {
			if set>>(i-1)&1 != 0 {
				sum += runs[i].Addr - runs[i-1].end()
				ok = ok && runs[i-1].level(runs[i])
			}
		}
		if ok && (!possible || sum < waste) {
			waste, possible = sum, true
		}
	}
	return waste, possible
}

func TestDiffSaysWhatToTellThePeer(t *testing.T) {
	plan := func(regions int, pages ...uint64) *Plan {
		p, err := MakePlan(pagesOf(1, 1<<40, pages...), regions, huge)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, c := range []struct {
		name        string
		from, to    *Plan
		add, remove int
		replace     bool
	}{
		{"nothing", plan(8, 0, 9), plan(8, 9, 0), 0, 0, false},
		{"one more", plan(8, 0, 9), plan(8, 0, 9, 20), 1, 0, false},
		{"one less", plan(8, 0, 9, 20), plan(8, 0, 20), 0, 1, false},
		{"grown in place", plan(8, 0, 9), plan(8, 0, 1, 9), 1, 1, true},
		{"a gap was closed", plan(2, 0, 9), plan(2, 0, 9, 50), 2, 2, true},
	} {
		add, remove, replace := c.from.Diff(c.to)
		if len(add) != c.add || len(remove) != c.remove || replace != c.replace {
			t.Errorf("%s: add %d, remove %d, replace %v", c.name, len(add), len(remove), replace)
		}
	}
}
