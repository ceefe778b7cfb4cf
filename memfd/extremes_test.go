package memfd

import (
	"errors"
	"math"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

func TestSpaceThatNoMachineHasIsAnError(t *testing.T) {
	for _, space := range []uint64{math.MaxUint64, math.MaxUint64 - 1<<21, 1 << 63, 1 << 57} {
		for _, base := range []uint64{0, 1 << 32} {
			o := small()
			o.Space, o.Base = space, base
			if a, err := New(o); err == nil {
				t.Errorf("%d bytes of address space from 0x%x on", space, base)
				_ = a.Close()
			}
		}
	}
}

func TestExternalMemoryAtTheEndOfAllAddressesIsRefusedOrGoesAgain(t *testing.T) {
	a := opened(t, linux{}, small())
	for _, page := range []uint64{4096, 16 << 10, 64 << 10} {
		for _, addr := range []memtable.IOVA{memtable.IOVA(-page), memtable.IOVA(-page - page)} {
			mem := anonymous(t, int(3*page))
			mem = mem[-addressOf(mem)&(page-1):][:page]
			x, err := a.Register(t.Context(), "x", ExternalOptions{Mem: mem, Page: page, Addrs: []memtable.IOVA{addr}})
			if err != nil {
				if !errors.Is(err, ErrMisaligned) {
					t.Errorf("pages of %d at 0x%x: %v", page, uint64(addr), err)
				}
				continue
			}
			unregister(t, x)
			if _, ok := a.ByIOVA(nil).At(addr, 1); ok {
				t.Errorf("pages of %d at 0x%x: it is found after it went", page, uint64(addr))
			}
		}
	}
}

func TestACacheThatNothingCouldHoldIsAnError(t *testing.T) {
	_, err := poolOn(t, plainFake(t, 1), PoolOptions{Size: 64, Count: 1, Cache: math.MaxInt})
	if !errors.Is(err, ErrSize) {
		t.Error(err)
	}
}

// TestAHintThatCannotServeIsNotMissed: it is a wish, and other pages do.
func TestAHintThatCannotServeIsNotMissed(t *testing.T) {
	for name, wrong := range map[string]error{
		"out of reach":      &MaskError{Bits: 32},
		"on the wrong node": &NodeError{Want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := mixed(t)
			f.ask = func(g growth) error {
				if g.page == fakeUnit {
					return wrong
				}
				return nil
			}
			h := heapOn(f, HeapOptions{Node: AnyNode, Hint: fakeUnit})
			b, err := h.Alloc(t.Context(), 64, 0)
			if err != nil {
				t.Fatal(err)
			}
			freed(t, h, b)
			if _, err := poolOn(t, f, PoolOptions{Size: 64, Count: 1, Hint: fakeUnit}); err != nil {
				t.Error("a pool:", err)
			}
		})
	}
}

// TestMemoryOfManyNodesIsKeptApart: machines have up to 1024 of them.
func TestMemoryOfManyNodesIsKeptApart(t *testing.T) {
	var grounds []ground
	for node := range 300 {
		grounds = append(grounds, ground{4096, fakeUnit, node, 1})
	}
	f := newFake(t, grounds...)
	s := newStore(f, "test", false, false, -1)
	for node := range grounds {
		for range 2 { // the second lies in what the first has brought
			if _, err := s.take(t.Context(), request{size: fakeUnit / 2, align: quantum, node: node}); err != nil {
				t.Fatalf("node %d: %v", node, err)
			}
		}
	}
	if err := audit(s); err != nil {
		t.Error(err)
	}
}

// TestSpaceForVeryManyExtentsIsCut: what is known of them would take more memory
// than there is, for pages that nobody uses so many of.
func TestSpaceForVeryManyExtentsIsCut(t *testing.T) {
	if testing.Short() {
		t.Skip("what is known of so many extents takes a gigabyte")
	}
	o := small()
	o.Space, o.Extent = 1<<40, 4096
	a := opened(t, paper{}, o)
	if n := len(a.classes[0].slots); n != mostExtents {
		t.Errorf("there are %d extents", n)
	}
	giveBack(t, a, take(t, a, growth{owner: "b", size: 1 << 20, node: AnyNode}))
}
