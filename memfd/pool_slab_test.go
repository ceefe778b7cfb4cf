package memfd

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/vhostd/vhostd/memtable"
)

func TestBuffersLieAsTheyShould(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := newFake(t, ground{4096, fakeUnit, AnyNode, 20}, ground{8192, fakeUnit, AnyNode, 20})
		f.shift = map[int]uint64{2: 1 << 40, 3: 1 << 40, 17: 1 << 41, 30: 1 << 42}
		o := PoolOptions{
			Size:     rapid.Uint32Range(1, 9000).Draw(rt, "size"),
			Count:    rapid.IntRange(1, 50).Draw(rt, "count"),
			Align:    1 << rapid.IntRange(0, 15).Draw(rt, "align"),
			Straddle: rapid.Bool().Draw(rt, "straddle"),
		}
		p, err := poolOn(t, f, o)
		stride := up(uint64(o.Size), max(uint64(o.Align), quantum))
		if _, short := errors.AsType[*ShortageError](err); short || !o.Straddle && stride > 8192 && errors.Is(err, ErrSize) {
			if f.held() != 0 {
				rt.Fatalf("%d bytes are left of what failed", f.held())
			}
			return
		}
		if err != nil {
			rt.Fatal(err)
		}
		c := p.Cache()
		all := make([]memtable.Buf, 1000)
		all = all[:c.Get(all)]
		if len(all) < o.Count || p.Stats().Count != len(all) {
			rt.Fatalf("%d buffers of %d: %+v", len(all), o.Count, p.Stats())
		}
		taken := make(map[uint64]bool)
		for _, b := range all {
			at, end := numberOf(b.VA), numberOf(b.VA)+uint64(b.Cap)
			addr, room, ok := f.iova(b.VA)
			_, g, _ := f.extentOf(b.VA)
			if b.Cap != o.Size || b.Len != 0 || at%max(uint64(o.Align), quantum) != 0 || !ok || b.Addr != addr || room < uint64(b.Cap) {
				rt.Fatalf("%+v, at %x for devices, for %d bytes", b, addr, room)
			}
			if !o.Straddle && at/g.page != (end-1)/g.page {
				rt.Fatalf("%+v crosses a page of %d bytes", b, g.page)
			}
			for line := at / quantum; line <= (end-1)/quantum; line++ {
				if taken[line] {
					rt.Fatalf("%+v shares a cache line with another", b)
				}
				taken[line] = true
			}
		}
		c.Put(all)
		if err := p.Close(); err != nil || f.held() != 0 {
			rt.Fatalf("%d bytes are left: %v", f.held(), err)
		}
	})
}

func TestTheRestOfABlockIsNotLost(t *testing.T) {
	p, f := pooled(t, 200, PoolOptions{Size: 20 << 10, Count: 103, Straddle: true}) // a slab and an extent
	if len(f.grown) != 1 || p.Stats().Count != 103 {
		t.Errorf("%d growths for %d buffers", len(f.grown), p.Stats().Count)
	}
}

func TestAPoolGrowsTwiceAtMostForOneWish(t *testing.T) {
	p, f := pooled(t, 200, PoolOptions{Size: 2100, Count: 100}) // nearly half of each page is lost
	if len(f.grown) != 2 || p.Stats().Count < 100 || p.Stats().Count > 108 {
		t.Errorf("%d growths for %d buffers", len(f.grown), p.Stats().Count)
	}
}

func TestBuffersMayBeAlignedAboveTheExtent(t *testing.T) {
	f := plainFake(t, 50)
	for range 4 { // from any extent on
		p, err := poolOn(t, f, PoolOptions{Size: 64, Align: 2 * fakeUnit, Count: 1, Straddle: true})
		if err != nil {
			t.Fatal(err)
		}
		if b := got(t, p.Cache(), 1); numberOf(b[0].VA)%(2*fakeUnit) != 0 {
			t.Errorf("%+v", b[0])
		}
		if _, err := f.grow(t.Context(), growth{size: fakeUnit, node: AnyNode}); err != nil {
			t.Fatal(err)
		}
	}
}
