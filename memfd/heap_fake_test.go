package memfd

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// ground is memory of one page size and node; those of a fake touch.
type ground struct {
	page, unit uint64
	node       int
	units      int
}

// fake is a supply that does as it is told, and fails the test if it is told
// nonsense. Its grounds lie in one piece of memory, one after the other.
type fake struct {
	t       testing.TB
	mem     []byte
	va      memtable.VA
	grounds []ground
	// shift is added to the device's address of an extent, by its number.
	shift map[int]uint64
	// ask, if set, may refuse or delay a growth; no lock is held over it.
	ask func(g growth) error
	// parting is the same for what is released.
	parting func(va memtable.VA, size uint64) error

	mu    sync.Mutex
	taken []bool // by extent, those of all grounds in a row
	grown []growth
}

const fakeUnit = 16 << 10

// plainFake has so many extents of four pages.
func plainFake(t testing.TB, units int) *fake {
	return newFake(t, ground{page: 4096, unit: fakeUnit, node: AnyNode, units: units})
}

func newFake(t testing.TB, grounds ...ground) *fake {
	t.Helper()
	f := &fake{t: t, grounds: grounds}
	size, n, widest := uint64(0), 0, uint64(0)
	for _, g := range grounds {
		size, n, widest = size+g.unit*uint64(g.units), n+g.units, max(widest, g.unit)
	}
	raw, err := unix.Mmap(-1, 0, int(size+widest), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		t.Fatal(err)
	}
	start := addressOf(raw)
	f.mem = raw[up(start, widest)-start:][:size]
	w := memtable.Wrap(f.mem, memtable.FileID{}, 0, nil)
	f.va, f.taken = w.VA(), make([]bool, n)
	t.Cleanup(func() {
		_ = w.Close()
		if err := unix.Munmap(raw); err != nil {
			t.Error(err)
		}
	})
	return f
}

// each calls do for the grounds that serve, with the number of the first extent
// and its place.
func (f *fake) each(page uint64, node int, do func(g ground, first int, off uint64) (done bool)) {
	first, off := 0, uint64(0)
	for _, g := range f.grounds {
		if (page == 0 || page == g.page) && (node == AnyNode || node == g.node) && do(g, first, off) {
			return
		}
		first, off = first+g.units, off+g.unit*uint64(g.units)
	}
}

func (f *fake) shapes(page uint64, node int) (all []shape) {
	f.each(page, node, func(g ground, _ int, _ uint64) bool {
		all = append(all, shape{g.page, g.unit})
		return false
	})
	return all
}

func (f *fake) scattered() bool { return f.shift != nil }

func (f *fake) grow(ctx context.Context, g growth) (b *block, err error) {
	if f.ask != nil {
		if err := f.ask(g); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.each(g.page, g.node, func(gr ground, first int, off uint64) bool {
		n, run := int((g.size-1)/gr.unit+1), 0
		for i := range gr.units {
			if run++; f.taken[first+i] || run > 1 && g.contiguous && f.shift[first+i] != f.shift[first+i-1] {
				run = 0
				if !f.taken[first+i] {
					run = 1
				}
			}
			if run == n {
				at := i + 1 - n
				for j := range n {
					f.taken[first+at+j] = true
				}
				b = &block{VA: f.va.Add(off + uint64(at)*gr.unit), Size: uint64(n) * gr.unit,
					Page: gr.page, Node: gr.node, Extent: gr.unit}
				return true
			}
		}
		return false
	})
	if b == nil {
		return nil, &ShortageError{What: "extents of the fake", Node: g.node, Want: g.size}
	}
	b.Addr, _, _ = f.iova(b.VA)
	f.grown = append(f.grown, g)
	return b, nil
}

// extentOf gives the extent that a byte lies in.
func (f *fake) extentOf(va memtable.VA) (n int, g ground, in uint64) {
	at := numberOf(va) - numberOf(f.va)
	f.each(0, AnyNode, func(gr ground, first int, off uint64) bool {
		if at-off >= gr.unit*uint64(gr.units) {
			return false
		}
		n, g, in = first+int((at-off)/gr.unit), gr, (at-off)%gr.unit
		return true
	})
	return n, g, in
}

func (f *fake) release(_ context.Context, va memtable.VA, size uint64) error {
	if f.parting != nil {
		if err := f.parting(va, size); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, g, in := f.extentOf(va)
	if in != 0 || size == 0 || size%g.unit != 0 {
		f.t.Errorf("release of %d bytes, %d into an extent", size, in)
	}
	for i := range int(size / g.unit) {
		if !f.taken[n+i] {
			f.t.Errorf("extent %d is released and was not taken", n+i)
		}
		f.taken[n+i] = false
	}
	clear(va.Bytes(size))
	return nil
}

func (f *fake) iova(va memtable.VA) (memtable.IOVA, uint64, bool) {
	n, g, in := f.extentOf(va)
	room := g.unit - in
	for i := n + 1; i < len(f.taken) && f.shift[i] == f.shift[n]; i++ {
		room += g.unit // of equal units in tests that look
	}
	return memtable.IOVA(numberOf(va) + f.shift[n]), room, true
}

// held counts the bytes that are taken.
func (f *fake) held() (size uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.each(0, AnyNode, func(g ground, first int, _ uint64) bool {
		for _, taken := range f.taken[first:][:g.units] {
			if taken {
				size += g.unit
			}
		}
		return false
	})
	return size
}

// audit tests all that must be true of a store at any time.
func audit(s *store) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.chunks
	seen := make(map[uint32]bool)
	vacancies, shelf, loans, used, size := 0, 0, 0, uint64(0), uint64(0)
	for n, p := range c.spans {
		if n > 0 && c.spans[n-1].end() > p.addr {
			return fmt.Errorf("span %d overlaps the one before", n)
		}
		if len(p.recent) != int(p.size/c.kinds[p.kind].unit) {
			return fmt.Errorf("span %d of %d bytes has %d extents", n, p.size, len(p.recent))
		}
		at, before := p.addr, p.first
		for i := c.all[p.first].next; i != p.last; i = c.all[i].next {
			x, prev := &c.all[i], &c.all[before]
			switch {
			case x.addr != at || x.size == 0 || x.size%quantum != 0 || x.kind != p.kind || x.prev != before || seen[i]:
				return fmt.Errorf("chunk %d in span %d is not in order: %+v", i, n, *x)
			case x.mood == vacant && prev.mood == vacant:
				return fmt.Errorf("chunks %d and %d are vacant neighbours", before, i)
			case s.flat && x.iova-p.iova != x.addr-p.addr:
				return fmt.Errorf("chunk %d is elsewhere for devices: %+v", i, *x)
			case x.mood == shelved:
				shelf++
			case x.mood == lent:
				loans, used = loans+1, used+x.size
			case x.mood == vacant:
				vacancies++
				if x.dirty > x.size {
					return fmt.Errorf("chunk %d is dirtier than it is large: %+v", i, *x)
				}
				for _, b := range c.va(x.kind, x.addr).Bytes(x.size)[x.dirty:] {
					if b != 0 {
						return fmt.Errorf("chunk %d is said to be zero: %+v", i, *x)
					}
				}
			default:
				return fmt.Errorf("chunk %d has no mood: %+v", i, *x)
			}
			seen[i] = true
			at, before = x.end(), i
		}
		if at != p.end() || c.all[p.last].prev != before {
			return fmt.Errorf("the chunks of span %d end at %x, not at %x", n, at, p.end())
		}
		size += p.size
	}
	for b := c.bins.next(0); b >= 0; b = c.bins.next(b + 1) {
		for i := c.bins.head[b]; i != 0; i = c.all[i].after {
			if !seen[i] || c.all[i].mood != vacant || binOf(c.all[i].size) != b {
				return fmt.Errorf("chunk %d is wrongly in bin %d: %+v", i, b, c.all[i])
			}
			vacancies--
		}
	}
	for q, i := range c.shelf.first {
		for n := c.shelf.n[q]; i != 0 || n > 0; n-- {
			if n == 0 || !seen[i] || c.all[i].mood != shelved || c.all[i].size != uint64(q)*quantum {
				return fmt.Errorf("chunk %d is wrongly on the shelf for %d: %+v", i, q*quantum, c.all[i])
			}
			shelf--
			i = c.all[i].after
		}
	}
	if shelf != 0 {
		return fmt.Errorf("%d chunks are on no shelf", shelf)
	}
	if vacancies != 0 || loans != c.lent || used != c.used || size != c.size {
		return fmt.Errorf("%d vacancies in no bin; %d lent, counted %d; %d used, counted %d; %d in all, counted %d",
			vacancies, loans, c.lent, used, c.used, size, c.size)
	}
	return nil
}
