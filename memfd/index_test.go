package memfd

import (
	"sync"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

func TestAddrAnswersToTheByteAndForNothingThatIsOnlyReserved(t *testing.T) {
	for _, mode := range []IOVAMode{IOVAAsVA, IOVAAsPA} {
		o := small()
		o.IOVA, o.Resolver = mode, scattered{}
		a := opened(t, linux{}, o)
		b := take(t, a, growth{owner: "b", size: 32 << 10, node: AnyNode})
		unit := b.Extent
		for _, off := range []uint64{0, 1, unit - 1, unit, unit + 5, b.Size - 1} {
			addr, n, ok := a.Addr(b.VA.Add(off))
			va, found := a.ByIOVA(nil).At(addr, n)
			if !ok || n != unit-off%unit || !found || va != b.VA.Add(off) {
				t.Errorf("mode %v, offset %d: 0x%x for %d bytes, which is at %v", mode, off, addr, n, va)
			}
		}
		c := a.classes[0]
		last := c.base.Add(uint64(len(c.mem)) - 1)
		for _, va := range []memtable.VA{b.VA.Add(b.Size), last, last.Add(1), {}} {
			if addr, n, ok := a.Addr(va); ok {
				t.Errorf("mode %v: nothing is mapped at %v, and it is at 0x%x for %d bytes", mode, va, addr, n)
			}
		}
		giveBack(t, a, b)
		if _, _, ok := a.Addr(b.VA); ok {
			t.Errorf("mode %v: what was released still has an address", mode)
		}
	}
}

// What a look-up tells, it tells of one moment: an extent that is there lies in
// a file, whatever is opened and closed meanwhile.
func TestLookUpsNeedNoLockWhileMemoryComesAndGoes(t *testing.T) {
	a := opened(t, linux{}, small())
	base := a.classes[0].base
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			found := 0
			for i := uint64(0); ; i++ {
				select {
				case <-done:
					t.Logf("%d look-ups, %d found something", i, found)
					return
				default:
				}
				va := base.Add(i % 4 * (16 << 10))
				if e, ok := a.Lookup(va); ok {
					if found++; e.VA != va || e.FD < 0 || e.File == (memtable.FileID{}) || uint64(e.Addr) != numberOf(va) {
						t.Errorf("the look-up of %v gives %+v", va, e)
						return
					}
				}
				if addr, _, ok := a.Addr(va); ok && uint64(addr) != numberOf(va) {
					t.Errorf("the address of %v is 0x%x", va, addr)
					return
				}
			}
		})
	}
	for range 200 { // each time the file is opened and closed
		giveBack(t, a, take(t, a, growth{owner: "b", size: 32 << 10, node: AnyNode, shared: true}))
	}
	close(done)
	wg.Wait()
}

func TestALookUpAllocatesNothing(t *testing.T) {
	a := opened(t, linux{}, small())
	b := take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode})
	if n := testing.AllocsPerRun(100, func() {
		_, one := a.Lookup(b.VA)
		_, _, two := a.Addr(b.VA)
		if !one || !two {
			panic("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	giveBack(t, a, b)
}

func TestAnEntryKeepsEveryPartOfASlotApart(t *testing.T) {
	for _, s := range []slot{
		{node: AnyNode}, {listed: true, node: 0}, {pins: 1, node: mostNodes - 1}, {shared: true, node: 7},
		{addr: 1<<52 - 4096, listed: true, pins: 2, shared: true, node: 3},
	} {
		e := s.entry()
		if e.addr() != s.addr || e.node() != s.node ||
			e&present != 0 != s.listed || e&pinned != 0 != (s.pins > 0) || e&shared != 0 != s.shared {
			t.Errorf("%+v is kept as %x", s, uint64(e))
		}
	}
}
