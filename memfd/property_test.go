package memfd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/vhostd/vhostd/memtable"
)

// history is an arena that is used at random, and what should be true of it.
type history struct {
	k       *saboteur
	a       *Arena
	unit    uint64
	space   uint64
	floor   uint64
	live    map[uint64]holding // by address, an extent each
	mirrors []*witness
	stops   map[*witness]func(context.Context) error
}

type holding struct {
	va     memtable.VA
	shared bool
}

func newHistory(t *rapid.T) *history {
	o := small()
	o.Name, o.Extent, o.Space = "history", 8<<10, 128<<10
	floor := rapid.Uint64Range(0, 3).Draw(t, "floor") * o.Extent
	o.Minimum = map[int]uint64{AnyNode: floor}
	if rapid.Bool().Draw(t, "physical") {
		o.IOVA, o.Resolver = IOVAAsPA, shuffled{}
	}
	h := &history{k: new(saboteur), space: o.Space, floor: floor, unit: o.Extent,
		live: make(map[uint64]holding), stops: make(map[*witness]func(context.Context) error)}
	if o.IOVA == IOVAAsPA {
		h.unit = 4 << 10
	}
	var err error
	if h.a, err = newArena(h.k, o); err != nil {
		t.Fatal(err)
	}
	return h
}

// shuffled resolves addresses such that pairs of pages are neighbours and in
// the wrong order.
type shuffled struct{}

func (shuffled) Resolve(v memtable.VA, n uint64) (memtable.PA, uint64, error) {
	page := numberOf(v) >> 12 & 0xffff
	return memtable.PA(1<<40 + uint64(bits.Reverse16(uint16(page>>1)))<<13 + page&1<<12), min(n, 4<<10), nil
}

// sabotage lets one of the next calls fail, now and then.
func (h *history) sabotage(t *rapid.T) {
	errno := rapid.SampledFrom([]error{unix.ENOMEM, unix.ENOSPC}).Draw(t, "errno")
	h.k.arm(errno, rapid.SliceOfN(rapid.IntRange(1, 12), 0, 2).Draw(t, "calls that fail")...)
	for _, m := range h.mirrors {
		m.refuse.Store(rapid.IntRange(0, 9).Draw(t, "refuse") == 0)
		m.holdOn.Store(rapid.IntRange(0, 9).Draw(t, "hold on") == 0)
	}
}

// peace ends all sabotage.
func (h *history) peace() {
	h.k.arm(nil)
	for _, m := range h.mirrors {
		m.refuse.Store(false)
		m.holdOn.Store(false)
	}
}

func (h *history) grow(t *rapid.T) {
	h.sabotage(t)
	g := growth{owner: "h", node: AnyNode, shared: rapid.Bool().Draw(t, "shared"),
		size:       rapid.Uint64Range(1, 6*h.unit).Draw(t, "size"),
		contiguous: rapid.IntRange(0, 3).Draw(t, "contiguous") == 0}
	b, err := h.a.grow(context.Background(), g)
	h.peace()
	if err != nil {
		return
	}
	if b.Size < g.size || b.Size-g.size >= h.unit || b.Extent != h.unit {
		t.Fatalf("%d bytes asked for, %+v given", g.size, b)
	}
	mem := b.VA.Bytes(b.Size)
	if len(bytes.Trim(mem, "\x00")) != 0 {
		t.Fatal("new memory does not read zero")
	}
	clearToOnes(b)
	for off := uint64(0); off < b.Size; off += h.unit {
		va := b.VA.Add(off)
		if _, twice := h.live[numberOf(va)]; twice {
			t.Fatalf("%v was handed out twice", va)
		}
		h.live[numberOf(va)] = holding{va, g.shared}
	}
}

// release gives back a run of extents that touch.
func (h *history) release(t *rapid.T) {
	if len(h.live) == 0 {
		return
	}
	at := rapid.SampledFrom(h.addresses()).Draw(t, "at")
	h.sabotage(t)
	first := h.live[at]
	size := uint64(0)
	for range rapid.IntRange(1, 5).Draw(t, "extents") {
		if _, ok := h.live[at+size]; !ok {
			break
		}
		delete(h.live, at+size)
		size += h.unit
	}
	err := h.a.release(context.Background(), first.va, size)
	h.peace()
	if _, ok := errors.AsType[*QuarantineError](err); err != nil && !ok {
		t.Fatalf("releasing: %v", err)
	}
}

func (h *history) addresses() (all []uint64) {
	for at := range h.live {
		all = append(all, at)
	}
	slices.Sort(all)
	return all
}

func (h *history) follow(t *rapid.T) {
	h.sabotage(t)
	w := newWitness(h.a)
	w.refuse.Store(rapid.Bool().Draw(t, "refuse the first"))
	stop, err := h.a.Follow(context.Background(), w)
	h.peace()
	if err == nil {
		w.refuse.Store(false)
		h.mirrors, h.stops[w] = append(h.mirrors, w), stop
	}
}

func (h *history) stop(t *rapid.T) {
	if len(h.mirrors) == 0 {
		return
	}
	w := rapid.SampledFrom(h.mirrors).Draw(t, "mirror")
	h.sabotage(t)
	err := h.stops[w](context.Background())
	h.peace()
	if err != nil {
		if err = h.stops[w](context.Background()); err != nil {
			t.Fatal("stopping again:", err)
		}
	}
	if left := w.addresses(); len(left) > 0 {
		t.Fatalf("a mirror that was stopped can reach %x", left)
	}
	h.mirrors = slices.DeleteFunc(h.mirrors, func(o *witness) bool { return o == w })
}

func (h *history) reclaim(t *rapid.T) {
	h.sabotage(t)
	_ = h.a.Reclaim(context.Background())
	h.peace()
	if err := h.a.Reclaim(context.Background()); err != nil {
		t.Fatal("reclaiming in peace:", err)
	}
}

// check is what is true at any time between two calls.
func (h *history) check(t *rapid.T) {
	quarantined := h.checkLayout(t)
	var shared []uint64
	for _, at := range h.addresses() {
		if h.live[at].shared {
			shared = append(shared, at)
		}
	}
	for _, m := range h.mirrors {
		if err := m.check(); err != nil {
			t.Fatal(err)
		}
		// All that is in use, and beyond that only what it held on to.
		known := m.addresses()
		for _, at := range shared {
			if !slices.Contains(known, at) {
				t.Fatalf("a mirror cannot reach %x, which is in use", at)
			}
		}
		for _, at := range known {
			if !slices.Contains(shared, at) && !quarantined(at) {
				t.Fatalf("a mirror can reach %x, which is free", at)
			}
		}
	}
	h.checkRuns(t, shared)
	h.checkLookups(t, quarantined)
}

// checkLayout compares the layout with what was handed out.
func (h *history) checkLayout(t *rapid.T) (quarantined func(at uint64) bool) {
	var live, kept uint64
	var held []BlockLayout
	for _, b := range h.a.Layout().Classes[0].Blocks {
		switch b.State {
		case "live":
			live += b.Size
		case "idle":
			kept += b.Size
		case "quarantined":
			held = append(held, b)
		case "lost":
		default:
			t.Fatalf("between two calls there is a block that is %s", b.State)
		}
	}
	if live != uint64(len(h.live))*h.unit {
		t.Fatalf("%d bytes are live, and %d extents were handed out", live, len(h.live))
	}
	if kept > h.floor {
		t.Fatalf("%d bytes are kept, for a minimum of %d", kept, h.floor)
	}
	return func(at uint64) bool {
		return slices.ContainsFunc(held, func(b BlockLayout) bool { return at-uint64(b.VA) < b.Size })
	}
}

// checkRuns: the runs are exactly what is in use and shared, and touch nowhere.
func (h *history) checkRuns(t *rapid.T, shared []uint64) {
	var covered uint64
	runs := h.a.Runs()
	for _, r := range runs {
		covered += r.Size
	}
	if covered != uint64(len(shared))*h.unit {
		t.Fatalf("the runs have %d bytes and %d extents are shared", covered, len(shared))
	}
	plan, err := memtable.MakePlan(runs, len(runs), h.unit)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Waste() != 0 {
		t.Fatalf("with a region for each run %d bytes are wasted", plan.Waste())
	}
}

// checkLookups: a look-up answers what a walk over all extents answers.
func (h *history) checkLookups(t *rapid.T, quarantined func(uint64) bool) {
	table := h.a.ByIOVA(nil)
	var mapped uint64
	for _, e := range h.a.Extents() {
		mapped += e.Size
		for _, off := range []uint64{0, 1, e.Size / 2, e.Size - 1} {
			va, ok := table.At(e.Addr+memtable.IOVA(off), 1)
			if !ok && quarantined(numberOf(e.VA)) {
				continue // it may be out of the look-ups, and could not be unmapped
			}
			if !ok || va != e.VA.Add(off) {
				t.Fatalf("the look-up of %x, byte %d of the extent at %v, gives %v", e.Addr, off, e.VA, va)
			}
			if found, ok := h.a.Lookup(va); !ok || found != e {
				t.Fatalf("the look-up of %v gives %+v, want %+v", va, found, e)
			}
		}
		addr, n, ok := h.a.iova(e.VA.Add(1))
		if !ok && quarantined(numberOf(e.VA)) {
			continue // as above
		}
		if !ok || addr != e.Addr+1 || n < e.Size-1 {
			t.Fatalf("the IOVA of %v+1 is %x for %d bytes", e.VA, addr, n)
		}
	}
	var listed uint64
	for _, r := range table.Regions() {
		listed += r.Size
	}
	if listed > mapped {
		t.Fatalf("look-ups find %d bytes and %d are mapped", listed, mapped)
	}
}

// end gives all back: nothing but the minimum stays, and after Close nothing.
func (h *history) end(t *rapid.T) {
	h.peace()
	if err := h.a.Reclaim(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, at := range h.addresses() {
		if err := h.a.release(context.Background(), h.live[at].va, h.unit); err != nil {
			t.Fatal(err)
		}
	}
	// What was quarantined counted for the minimum no more, and does again, so
	// there may be less than it, but never more.
	if mapped := h.a.Layout().Classes[0].Mapped; mapped > h.floor {
		t.Fatalf("%d bytes are mapped at the end, for a minimum of %d", mapped, h.floor)
	}
	for _, m := range h.mirrors {
		if left := m.addresses(); len(left) > 0 {
			t.Fatalf("at the end a mirror can reach %x", left)
		}
	}
	if err := h.a.Close(); err != nil {
		t.Fatal("closing:", err)
	}
}

func TestAnyHistoryWithFaultsKeepsTheInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(rt)
		defer func() {
			h.peace()
			_ = h.a.Close()
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"grow":    h.grow,
			"more":    h.grow,
			"release": h.release,
			"follow":  h.follow,
			"stop":    h.stop,
			"reclaim": h.reclaim,
			"":        h.check,
		})
		h.end(rt)
		if left := memfds(t, "history"); len(left) > 0 {
			rt.Fatalf("files are open: %s", fmt.Sprint(left))
		}
	})
}
