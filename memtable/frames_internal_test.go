package memtable

import "testing"

// A leaf covers 2 MiB in frames of 4 KiB. Adding a page must make one leaf, not
// all of them.
func TestLeavesAreSharedBetweenGenerations(t *testing.T) {
	const leafSpan = 4096 << leafBits
	mem := Wrap(make([]byte, 4096), FileID{}, 0, nil)
	page := func(leaf, frame uint64) Region[PA] {
		return Region[PA]{Addr: PA(leaf*leafSpan + frame*4096), Size: 4096, Mem: mem}
	}
	old, err := New([]Region[PA]{page(7, 1), page(9, 1), page(4000, 1), page(5000, 0)}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	// Leaf 3 is new and shifts the directory, 9 gains a page, 5000 goes.
	next, err := old.With([]Region[PA]{page(3, 0), page(9, 511)}, []Region[PA]{page(5000, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if old.Index().Kind != "two-level" || next.Index().Kind != "two-level" {
		t.Fatalf("indexes are %+v and %+v", old.Index(), next.Index())
	}
	for n, shared := range map[uint64]bool{3: false, 7: true, 9: false, 4000: true} {
		was := (*leaf)(nil)
		if n >= old.first {
			was = old.dir[n-old.first]
		}
		if now := next.dir[n-next.first]; now == nil || (now == was) != shared {
			t.Errorf("leaf %d: was %p, is %p; shared should be %v", n, was, now, shared)
		}
	}
	if _, ok := old.At(PA(9*leafSpan+511*4096), 1); ok {
		t.Error("the old generation has the new page")
	}
}
