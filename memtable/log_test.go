package memtable_test

import (
	"bytes"
	"math"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/vhostd/vhostd/memtable"
)

// newLog makes a log over size bytes in the middle of a buffer, so that what is
// behind it can be watched.
func newLog(t failer, size int) (l *memtable.Log, all []byte) {
	all = make([]byte, size+16)
	l, err := memtable.NewLog(memtable.Wrap(all[8:8+size], memtable.FileID{}, 0, nil))
	if err != nil {
		t.Fatal(err)
	}
	return l, all
}

func TestMarkSetsTheBitsOfAllPagesTouchedAndNoOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(4, 40).Draw(t, "size")
		pages := uint64(size / 4 * 32) // wrapped: whole words only
		l, got := newLog(t, size)
		want := make([]byte, len(got))
		for range rapid.IntRange(1, 8).Draw(t, "marks") {
			gpa := rapid.OneOf(rapid.Uint64Range(0, (pages+2)<<12), rapid.Uint64()).Draw(t, "gpa")
			n := rapid.OneOf(rapid.Uint64Range(0, 70<<12), rapid.SampledFrom([]uint64{0, 1, 4096, 4097, math.MaxUint64})).Draw(t, "n")
			ok := n == 0 || gpa+n-1 >= gpa // no wrap
			for p := gpa >> 12; n > 0 && p <= min(gpa+min(n-1, math.MaxUint64-gpa), math.MaxUint64)>>12; p++ {
				if p >= pages {
					ok = false
					break
				}
				want[8+p/8] |= 1 << (p % 8)
			}
			if l.Mark(memtable.GPA(gpa), n) != ok {
				t.Fatalf("Mark(0x%x, 0x%x) = %v", gpa, n, !ok)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("Mark(0x%x, 0x%x):\ngot  %x\nwant %x", gpa, n, got, want)
			}
		}
	})
}

func TestLogOfOddSizeIsUsedToItsLastByteWhereThePageIsOurs(t *testing.T) {
	fd := memfd(t, 4096)
	m := mapped(t, fd, 0, 7, nil) // 56 pages
	l, err := memtable.NewLog(m)
	if err != nil {
		t.Fatal(err)
	}
	if !l.Mark(55<<12, 4096) || m.Bytes()[6] != 0x80 {
		t.Errorf("the last page: %x", m.Bytes())
	}
	if l.Mark(56<<12, 1) || l.Mark(55<<12, 4097) {
		t.Error("marked past the end")
	}
	if all := mapped(t, fd, 0, 8, nil).Bytes(); all[7] != 0 {
		t.Errorf("a bit past the end: %x", all)
	}
	if l.Mapping() != m {
		t.Error("the log is not over its mapping")
	}
}

func TestLogRefusesMemoryItCannotSetBitsIn(t *testing.T) {
	mem := make([]byte, 64)
	for name, part := range map[string][]byte{"nothing": nil, "three bytes": mem[:3], "odd": mem[1:9], "half a word": mem[2:10]} {
		if _, err := memtable.NewLog(memtable.Wrap(part, memtable.FileID{}, 0, nil)); err == nil {
			t.Errorf("%s: made a log", name)
		}
	}
}

// Workers mark neighbouring pages, which share words. No bit may get lost.
func TestConcurrentMarksLoseNothing(t *testing.T) {
	const workers, pages = 4, 1 << 12
	l, mem := newLog(t, pages/8)
	var wg sync.WaitGroup
	for w := range uint64(workers) {
		wg.Go(func() {
			for p := w; p < pages; p += workers {
				if !l.Mark(memtable.GPA(p<<12+w), 1) {
					t.Errorf("page %d", p)
				}
			}
		})
	}
	wg.Wait()
	for i, b := range mem[8 : 8+pages/8] {
		if b != 0xff {
			t.Fatalf("byte %d is %#x", i, b)
		}
	}
}
