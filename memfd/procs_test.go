package memfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestASecondarySeesAllMemoryAtTheSameAddresses(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	before := take(t, n.a, growth{owner: "before", size: 48 << 10, node: AnyNode, shared: true})
	copy(before.VA.Bytes(5), "early")
	c := n.attached("c")
	if got, want := c.does("extents"), n.walked(); got != want {
		t.Errorf("it has %s, want %s", got, want)
	}
	private := take(t, n.a, growth{owner: "private", size: 32 << 10, node: AnyNode})
	if got, want := c.does("extents"), n.walked(); got != want {
		t.Errorf("after a growth it has %s, want %s", got, want)
	}
	giveBack(t, n.a, before)
	if got, want := c.does("extents"), n.walked(); got != want || want == "" {
		t.Errorf("after a release it has %s, want %s", got, want)
	}
	giveBack(t, n.a, private)
	if got := c.does("extents"); got != "" {
		t.Errorf("in the end it has %s", got)
	}
	c.does("close")
	n.alone()
}

func TestZonesAreFoundByNameAndOutliveWhoMadeThem(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	z, err := n.a.Zone(t.Context(), "ring", ZoneOptions{Size: 4096})
	if err != nil {
		t.Fatal(err)
	}
	copy(z.VA.Bytes(5), "hello")
	c := n.attached("c")
	if got, want := c.does("find ring"), fmt.Sprintf("%v 4096 hello", z.VA); got != want {
		t.Errorf("it finds %s, want %s", got, want)
	}
	if got := c.fails("find nothing"); !strings.Contains(got, ErrNoZone.Error()) {
		t.Error("what is not there:", got)
	}
	c.does("zone theirs")
	if got := c.fails("zone theirs"); !strings.Contains(got, ErrExists.Error()) {
		t.Error("a second one of the name:", got)
	}
	c.kill()
	n.alone()
	theirs := n.a.FindZone("theirs")
	if theirs == nil || string(theirs.VA.Bytes(5)) != "hello" {
		t.Fatalf("the zone of a secondary that died: %+v", theirs)
	}
	if err := errors.Join(z.Free(), theirs.Free()); err != nil {
		t.Error(err)
	}
}

// In legacy mode addresses do not follow one another as the file does.
func TestASecondarySeesTheMemoryOfLegacyModeInItsOrder(t *testing.T) {
	n := servedOn(t, pretend(), legacyOptions(), PrimaryOptions{})
	c := n.attached("c")
	h, err := n.a.Heap("h", HeapOptions{Node: AnyNode})
	if err != nil {
		t.Fatal(err)
	}
	// Most of the first three pages, and of two others.
	var all []patterned
	for i, size := range []uint64{2*legacyPage + 8192, legacyPage + 8192} {
		b, err := h.Alloc(t.Context(), size, 0)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, patterned{b, uint64(i+1) << 40})
		all[i].fill()
		n.agree(c)
		for at := uint64(0); at < size; at += legacyPage / 2 {
			mem := b.VA.Bytes(size)[at:]
			if got, want := c.does("number %x", numberOf(b.VA)+at), binary.LittleEndian.Uint64(mem); got != fmt.Sprint(want) {
				t.Errorf("at %d of block %d it reads %s, want %d", at, i, got, want)
			}
		}
	}
	c.does("alloc 100")
	c.does("check")
	for _, b := range all {
		if err := errors.Join(b.check(), h.Free(b.Buf)); err != nil {
			t.Error(err)
		}
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	c.does("close")
	n.alone()
}

func TestWhatASecondaryBorrowedComesBackWhenItDiesAndNobodyElseFreesIt(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	c, other := n.attached("c"), n.attached("other")
	c.does("alloc 100000")
	c.does("check")
	info := n.p.Secondaries()
	var token uint64
	for _, s := range info {
		if s.Name == "c" && s.Heap.Allocations != 1 {
			t.Errorf("its heap: %+v", s.Heap)
		}
	}
	for _, h := range n.a.Heaps() {
		h.store.mu.Lock()
		for i, c := range h.store.chunks.all {
			if c.mood == lent {
				token = uint64(c.gen)<<32 | uint64(i)
				at := c.addr
				h.store.mu.Unlock()
				if got := other.fails("free %d %d", at, token); !strings.Contains(got, ErrForeign.Error()) {
					t.Error("another's block is freed:", got)
				}
				h.store.mu.Lock()
			}
		}
		h.store.mu.Unlock()
	}
	if token == 0 {
		t.Error("nothing was lent")
	}
	c.does("check")
	c.kill()
	n.await("it stays", func(all []SecondaryInfo) bool { return len(all) == 1 })
	if heaps := n.a.Heaps(); len(heaps) != 1 && n.walked() != "" {
		t.Errorf("%d heaps, and mapped is %s", len(heaps), n.walked())
	}
	other.does("close")
}

func TestASecondaryMayHaveSoMuchAndNoMore(t *testing.T) {
	n := served(t, small(), PrimaryOptions{Limit: 64 << 10})
	c := n.attached("c")
	c.does("alloc 40000")
	if got := c.fails("alloc 40000"); !strings.Contains(got, "PrimaryOptions.Limit") {
		t.Error("above the limit:", got)
	}
	if got := c.fails("alloc 0"); !strings.Contains(got, ErrSize.Error()) {
		t.Error("nothing at all:", got)
	}
	c.does("alloc 20000")
	// The biggest piece that zones have, however little was asked for.
	unzoned(t, zoned(t, n.a, "large", ZoneOptions{Size: 256 << 10}))
	if got := c.fails("biggest piece"); !strings.Contains(got, "PrimaryOptions.Limit") || n.a.FindZone("piece") != nil {
		t.Error("the biggest zone:", got)
	}
	c.does("check")
	c.does("close")
}
