package memfd

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vhostd/vhostd/memtable"
)

func TestMemoryThatDevicesCannotAddressIsRefusedBeforeAnybodyHearsOfIt(t *testing.T) {
	o := small()
	o.Base, o.AddrBits = 4<<30, 33 // 8 GiB: all of the reservation
	for _, test := range []struct {
		what string
		base uint64
		size uint64
		ok   bool
	}{
		{"below", 4 << 30, 16 << 10, true},
		{"the last byte", 8<<30 - 32<<10, 32 << 10, true},
		{"one extent too many", 8<<30 - 32<<10, 48 << 10, false},
		{"above", 8 << 30, 16 << 10, false},
	} {
		t.Run(test.what, func(t *testing.T) {
			o.Base = test.base
			a := opened(t, linux{}, o)
			w, _ := followed(t, a)
			before := look(t, a, w)
			b, err := a.grow(t.Context(), growth{owner: "b", size: test.size, node: AnyNode, shared: true})
			if err == nil {
				defer giveBack(t, a, b)
			}
			if test.ok {
				if err != nil {
					t.Error(err)
				}
				return
			}
			far, ok := errors.AsType[*MaskError](err)
			if !ok || far.Bits != 33 || far.Addr != 8<<30 {
				t.Errorf("growing: %v", err)
			}
			if diff := cmp.Diff(before, look(t, a, w)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhereOneNodeIsOutOfReachAnotherServes(t *testing.T) {
	o := small()
	o.Base, o.AddrBits, o.Nodes = 8<<30-1<<20, 33, []int{0, AnyNode} // only the first is below 8 GiB
	a := opened(t, linux{}, o)
	if a.classes[0].first>>33 != 0 || a.classes[1].first>>33 != 1 {
		t.Fatal("the reservations are not where the test needs them")
	}
	_, err := a.grow(t.Context(), growth{owner: "high", size: 1, page: a.classes[1].page, node: 7})
	if err == nil {
		t.Error("memory of a node that is not there")
	}
	b, err := a.grow(t.Context(), growth{owner: "b", size: 1, node: AnyNode})
	if err != nil {
		t.Skip("memory of node 0 cannot be had:", err)
	}
	if b.Node != 0 {
		t.Errorf("the memory is of node %d, at %v", b.Node, b.VA)
	}
	giveBack(t, a, b)
}

func TestExternalMemoryThatDevicesCannotAddressIsRefused(t *testing.T) {
	o := small()
	o.AddrBits = 32
	a := opened(t, linux{}, o)
	mem, err := linux{}.reserve(0, 8<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = linux{}.unmap(mem) }()
	_, err = a.Register(t.Context(), "far", ExternalOptions{Mem: mem, Addrs: []memtable.IOVA{1 << 20, 1 << 32}})
	if _, ok := errors.AsType[*MaskError](err); !ok || a.External("far") != nil {
		t.Errorf("registering: %v", err)
	}
	x, err := a.Register(t.Context(), "near", ExternalOptions{Mem: mem, Addrs: []memtable.IOVA{1 << 20, 1<<32 - 4096}})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Unregister(t.Context()); err != nil {
		t.Error(err)
	}
}
