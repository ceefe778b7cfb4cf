package memfd

import (
	"slices"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memtable"
)

// classOn is a class that has no memory: only its books are looked at.
func classOn(a *Arena, extents int, paint func(i int, s *slot)) *class {
	const page = 4096
	c := &class{page: page, node: AnyNode, unit: page, first: 1 << 40, file: &file{fd: -1, id: memtable.FileID{Dev: 1, Ino: 2}}}
	c.slots = make([]slot, extents)
	for i := range c.slots {
		s := &c.slots[i]
		paint(i, s)
		if s.state != free && s.state != lost {
			s.mapped, s.pages = true, true
			s.addr = memtable.IOVA(c.first + uint64(i)*page)
		}
	}
	a.classes = append(a.classes, c)
	return c
}

func TestALayoutAddsUp(t *testing.T) {
	a := opened(t, linux{}, small())
	shared, err := a.Heap("shared", HeapOptions{Shared: true, Node: AnyNode})
	if err != nil {
		t.Fatal(err)
	}
	own, err := a.Heap("own", HeapOptions{Node: AnyNode})
	if err != nil {
		t.Fatal(err)
	}
	var bufs []memtable.Buf
	for range 10 {
		for _, h := range []*Heap{shared, own} {
			b, err := h.Alloc(t.Context(), 6000, 0)
			if err != nil {
				t.Fatal(err)
			}
			bufs = append(bufs, b)
		}
	}
	for i := 0; i < len(bufs); i += 4 { // every second one of the shared heap
		if err := shared.Free(bufs[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Zone(t.Context(), "ring", ZoneOptions{Size: 5000}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.FindZone("ring").Free() })
	p, err := a.Pool(t.Context(), "frames", PoolOptions{Size: 2048, Count: 8, Node: AnyNode})
	if err != nil {
		t.Fatal(err)
	}
	c := p.Cache()
	lent := make([]memtable.Buf, 3)
	c.Get(lent)
	t.Cleanup(func() { c.Put(lent); c.Close() })

	l := a.Layout()
	sum := l.Classes[0].Sum
	var used, mapped uint64
	for _, h := range l.Heaps {
		used, mapped = used+h.Stats.Used, mapped+h.Stats.Mapped
		var vacant uint64
		for _, f := range h.Free {
			vacant += f.Bytes
			if f.Least > f.Bytes/uint64(f.Count) || f.Bytes/uint64(f.Count) >= 2*f.Least {
				t.Errorf("%s: %d pieces of %d bytes are no pieces of %d", h.Owner, f.Count, f.Bytes, f.Least)
			}
		}
		if vacant != h.Stats.Free {
			t.Errorf("%s: the free lists have %d bytes, and %d are free", h.Owner, vacant, h.Stats.Free)
		}
	}
	pool := l.Pools[0]
	used += uint64(pool.Stats.Lent+pool.Stats.Cached) * pool.Stride
	mapped += pool.Stats.Mapped
	if sum.Used != used || sum.Used+sum.Vacant != mapped || l.Classes[0].Mapped != mapped {
		t.Errorf("the classes tell of %d bytes used and %d vacant, of %d mapped; heaps, zones and pools of %d used, of %d",
			sum.Used, sum.Vacant, l.Classes[0].Mapped, used, mapped)
	}
	var runs uint64
	for _, r := range a.Runs() {
		runs += r.Size
	}
	if sum.Shared != runs || l.Waste[1].Used != runs {
		t.Errorf("%d bytes are shared, the plan is for %d, and the runs have %d", sum.Shared, l.Waste[1].Used, runs)
	}
	if n := l.Nodes[0].Mapped; n != mapped {
		t.Errorf("the node has %d bytes, of %d", n, mapped)
	}
	t.Cleanup(func() {
		for i, b := range bufs {
			switch {
			case i%4 == 0:
			case i%2 == 0:
				shared.Free(b)
			default:
				own.Free(b)
			}
		}
	})
}

func TestALayoutTellsStatesApart(t *testing.T) {
	a := new(Arena)
	order := []state{live, idle, free, arriving, leaving, going, quarantined, lost, live}
	classOn(a, len(order), func(i int, s *slot) { s.state, s.shared = order[i], i == 0 })
	l := a.Layout().Classes[0]
	var got []string
	for _, b := range l.Blocks {
		got = append(got, b.State)
	}
	want := []string{"live", "idle", "arriving", "leaving", "going", "quarantined", "lost", "live"}
	if !slices.Equal(got, want) {
		t.Errorf("blocks are %v, want %v", got, want)
	}
	const page = 4096
	if want := (Amounts{Vacant: 2 * page, Idle: page, Moving: 3 * page, Quarantined: page, Lost: page, Shared: page}); l.Sum != want {
		t.Errorf("amounts are %+v, want %+v", l.Sum, want)
	}
}

// Where more blocks differ than are told, small ones are told together, and no
// byte of what they are used for is lost.
func TestALayoutOfAMillionScatteredPagesIsBoundedAndExact(t *testing.T) {
	a := new(Arena)
	const pages, page = 1 << 20, 4096
	classOn(a, pages, func(i int, s *slot) {
		if i%3 != 0 {
			s.state, s.shared, s.owner = live, i%3 == 1, "heap"
		}
	})
	begin := time.Now()
	l := a.Layout()
	t.Logf("a layout of %d pages took %v, %d blocks of %d bytes", pages, time.Since(begin), len(l.Classes[0].Blocks), l.Classes[0].Grain)
	c := l.Classes[0]
	if len(c.Blocks) > maxBlocks+piecesOf {
		t.Errorf("there are %d blocks, %d may be", len(c.Blocks), maxBlocks)
	}
	if want := uint64(pages/3) * page; c.Sum.Shared != want || c.Sum.Vacant < 2*want || c.Sum.Vacant > 2*want+2*page {
		t.Errorf("%d bytes are shared of %d vacant, want %d of twice as many", c.Sum.Shared, c.Sum.Vacant, want)
	}
	end := uint64(0)
	for _, b := range c.Blocks {
		if b.Offset < end || b.VA != Address(1<<40+b.Offset) {
			t.Fatalf("a block at %d, %v, begins before %d or lies elsewhere", b.Offset, b.VA, end)
		}
		end = b.Offset + b.Size
	}
}
