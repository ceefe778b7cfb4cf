package dma

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vhostd/vhostd/memtable"
)

// entries is a pagemap in which the pages from the one of base on are as
// listed. It counts the calls.
type entries struct {
	base  memtable.VA
	list  []uint64
	calls int
	fail  error
}

func (e *entries) ReadAt(b []byte, off int64) (int, error) {
	if e.calls++; e.fail != nil {
		return 0, e.fail
	}
	first := uint64(uintptr(e.base.Pointer())) / pageSize
	n := 0
	for i := uint64(off)/entrySize - first; i < uint64(len(e.list)) && n < len(b); i++ {
		binary.NativeEndian.PutUint64(b[n:], e.list[i])
		n += entrySize
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

const pageSize = 4096

// at is a pagemap of so many pages of memory that is there.
func at(t *testing.T, list ...uint64) (*Pagemap, *entries, memtable.VA) {
	mem := memtable.Wrap(make([]byte, (len(list)+1)*pageSize), memtable.FileID{}, 0, nil)
	t.Cleanup(func() { _ = mem.Close() })
	base := mem.VA()
	base = base.Add(-uint64(uintptr(base.Pointer())) % pageSize)
	e := &entries{base: base, list: list}
	return newPagemap(e, pageSize), e, base
}

func TestResolveGivesWhatFollowsInPhysicalMemory(t *testing.T) {
	p, _, base := at(t,
		present|0x100, present|1<<55|1<<61|0x101, present|0x102, // bits above the number mean other things
		present|0x200,
		present|0x201|1<<56,
		0,
		present|0x203,
		present|frameBits)
	for _, test := range []struct {
		off, n, pa, length uint64
	}{
		{0, 1, 0x100000, 1},
		{0, 3 * pageSize, 0x100000, 3 * pageSize},
		{0, 4 * pageSize, 0x100000, 3 * pageSize},
		{100, 2 * pageSize, 0x100064, 2 * pageSize},
		{2*pageSize + 4095, 1, 0x102fff, 1},
		{2*pageSize + 4095, 2, 0x102fff, 1},
		{3 * pageSize, 5 * pageSize, 0x200000, 2 * pageSize}, // the page after is not there
		{7 * pageSize, pageSize, frameBits << 12 & (1<<64 - 1), pageSize},
	} {
		pa, length, err := p.Resolve(base.Add(test.off), test.n)
		if err != nil || uint64(pa) != test.pa || length != test.length {
			t.Errorf("%d bytes at offset %d: 0x%x for %d bytes, %v; want 0x%x for %d",
				test.n, test.off, uint64(pa), length, err, test.pa, test.length)
		}
	}
}

func TestAPageThatIsNotThereAndOneThatIsHiddenAreDifferentErrors(t *testing.T) {
	broken := errors.New("broken")
	p, e, base := at(t, 0, swapped|1<<6, present, present|7)
	for i, want := range []error{&NotPresentError{VA: base}, &NotPresentError{VA: base.Add(pageSize), Swapped: true}, ErrHidden, nil} {
		_, _, err := p.Resolve(base.Add(uint64(i)*pageSize), pageSize)
		if fmt.Sprint(err) != fmt.Sprint(want) || want == ErrHidden != errors.Is(err, ErrHidden) {
			t.Errorf("page %d: %v, want %v", i, err, want)
		}
		if missing, ok := errors.AsType[*NotPresentError](want); ok {
			if got, ok := errors.AsType[*NotPresentError](err); !ok || *got != *missing {
				t.Errorf("page %d: %#v, want %#v", i, err, missing)
			}
		}
	}
	if _, _, err := p.Resolve(base.Add(4*pageSize), 1); err == nil {
		t.Error("a page beyond the end of the pagemap has an address")
	}
	for _, n := range []uint64{0, 1<<64 - 1} {
		if _, _, err := p.Resolve(base, n); err == nil {
			t.Errorf("%d bytes have an address", n)
		}
	}
	e.fail = broken
	if _, _, err := p.Resolve(base.Add(3*pageSize), 1); !errors.Is(err, broken) {
		t.Errorf("a pagemap that cannot be read: %v", err)
	}
}

func TestAHugePageTakesFewReadsAndAScatteredOneTakesOne(t *testing.T) {
	var huge []uint64
	for i := range uint64(mostEntries) {
		huge = append(huge, present|(0x1000+i))
	}
	p, e, base := at(t, huge...)
	if _, n, err := p.Resolve(base, 2<<20); err != nil || n != 2<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if e.calls > 5 {
		t.Errorf("%d reads for a huge page", e.calls)
	}
	huge[1] = present | 7
	e.calls = 0
	if _, n, err := p.Resolve(base, 2<<20); err != nil || n != pageSize {
		t.Errorf("%d bytes, %v", n, err)
	}
	if diff := cmp.Diff(1, e.calls); diff != "" {
		t.Error("reads for a page without a neighbour:", diff)
	}
}
