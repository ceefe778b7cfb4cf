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

// A frame that is not in the index is answered correctly, but slowly: so no
// look-up shows its absence.
func TestEveryWholeFrameIsInTheIndex(t *testing.T) {
	mem := Wrap(make([]byte, 1<<16), FileID{}, 0, nil)
	regions := []Region[PA]{
		{Addr: 0x2000, Size: 0x3000, Mem: mem, Skip: 0x100},         // three frames
		{Addr: 0x5000, Size: 0x1001, Mem: mem, Skip: 0x3100},        // one, and a byte of the next
		{Addr: 0x7fff, Size: 0x1002, Mem: mem},                      // one, between two single bytes
		{Addr: 1<<33 + 0x0800, Size: 0x1000, Mem: mem},              // none
		{Addr: 1<<33 + 0x1ff000, Size: 0x2000, Mem: mem, Skip: 0x7}, // one at the end of a leaf, one in the next
	}
	want := map[uint64]uint64{ // frame to where it is in mem
		2: 0x100, 3: 0x1100, 4: 0x2100, 5: 0x3100, 8: 1, 1<<21 + 0x1ff: 7, 1<<21 + 0x200: 0x1007,
	}
	for _, kind := range []string{"flat", "two-level"} {
		tab, err := New(regions, Options{IndexBytes: map[string]int{"flat": 1 << 25}[kind]})
		if err != nil {
			t.Fatal(err)
		}
		if got := tab.Index().Kind; got != kind {
			t.Fatalf("the index is %s, want %s", got, kind)
		}
		got := map[uint64]VA{}
		for i, v := range tab.flat {
			if !v.IsNil() {
				got[tab.base>>minShift+uint64(i)] = v
			}
		}
		for i, l := range tab.dir {
			for j := 0; l != nil && j < len(l); j++ {
				if !l[j].IsNil() {
					got[(tab.first+uint64(i))<<leafBits+uint64(j)] = l[j]
				}
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d frames, want %d", kind, len(got), len(want))
		}
		for frame, off := range want {
			if got[frame] != mem.VA().Add(off) {
				t.Errorf("%s: frame %#x is at %v, want %v", kind, frame, got[frame], mem.VA().Add(off))
			}
		}
	}
}

func TestClosedReadersAreForgotten(t *testing.T) {
	var d Domain
	stays := d.Join("stays")
	for range 10 {
		d.Join("goes").Close()
	}
	if len(d.readers) != 1 || d.readers[0] != stays {
		t.Errorf("%d readers are left", len(d.readers))
	}
}
