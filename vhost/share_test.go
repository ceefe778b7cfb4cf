package vhost

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// covers fails unless regions hold exactly the extents with these numbers.
func covers(t testing.TB, regions []sharedRegion, s *supply, numbers ...int) {
	t.Helper()
	var got uint64
	for _, r := range regions {
		got += r.Size
	}
	for _, e := range s.pick(numbers) {
		if !slices.ContainsFunc(regions, func(r sharedRegion) bool { return r.holds(e) }) {
			t.Errorf("extent at %#x is not shared", uint64(e.Addr))
		}
	}
	if want := uint64(len(numbers)) * extentBytes; got != want {
		t.Errorf("%d bytes are shared, want %d", got, want)
	}
}

func TestShareWithSlotsIsExactAndPausesNothing(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	s := newSupply(t, 8, 2)
	f := front(t, r.path, s, nil)
	f.SetPauser(pauser{func(context.Context) error { t.Error("traffic was paused"); return nil }, func() {}})
	covers(t, r.table(), s, 0, 1)
	ok(t, s.arrive(t.Context(), 5, 7))
	covers(t, r.table(), s, 0, 1, 5, 7)
	ok(t, s.leave(t.Context(), 1, 5))
	covers(t, r.table(), s, 0, 7)
	ok(t, s.arrive(t.Context(), 1))
	covers(t, r.table(), s, 0, 1, 7)
	if i := f.Info().Share; i.Waste() != 0 || i.Pauses != 0 || i.Tables != 0 || i.Regions != 3 || i.Max != 32 {
		t.Errorf("told operators %+v", i)
	}
}

// pauser is a virtio.Pauser made of functions.
type pauser struct {
	pause  func(context.Context) error
	resume func()
}

func (p pauser) Pause(ctx context.Context) error { return p.pause(ctx) }
func (p pauser) Resume()                         { p.resume() }

// runs is a front-end with ring 0, in extent 0, that runs.
func runs(t testing.TB, r *referee, s *supply, edit func(*FrontendConfig)) (*Frontend, *handDriver) {
	t.Helper()
	f := front(t, r.path, s, edit)
	d := newHandDriver(f, s, 0, 0)
	d.fresh(t)
	ok(t, f.Start(t.Context()))
	return f, d
}

func TestShareWithoutSlotsSendsOneTableUnderAPause(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, ProtocolMemSlots)
	s := newSupply(t, 8, 2)
	f, _ := runs(t, r, s, nil)
	var steps []string
	f.SetPauser(pauser{
		func(context.Context) error {
			steps = append(steps, "pause")
			covers(t, r.table(), s, 0, 1)
			return nil
		},
		func() {
			steps = append(steps, "resume")
			covers(t, r.table(), s, 0, 1, 3, 5)
		},
	})
	before := len(r.log())
	ok(t, s.arrive(t.Context(), 3, 5))
	if got := r.log()[before:]; len(got) != 1 || !slices.Equal(steps, []string{"pause", "resume"}) {
		t.Errorf("sent %q, and %v", got, steps)
	}
	if i := f.Info().Share; i.Pauses != 1 || i.Tables != 2 || i.Slots {
		t.Errorf("told operators %+v", i)
	}
}

func TestShareWithoutSlotsOrAcksWaitsForABarrier(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, ProtocolMemSlots|ProtocolReplyAck)
	s := newSupply(t, 8, 2)
	runs(t, r, s, nil)
	before := len(r.log())
	ok(t, s.arrive(t.Context(), 3))
	if got := r.log()[before:]; len(got) != 2 || got[1] != "GET_FEATURES" {
		t.Errorf("sent %q, want a table and GET_FEATURES", got)
	}
	covers(t, r.table(), s, 0, 1, 3)
}

// A driver that does not get its buffers back costs the allocation, with an
// error that says so, and nothing else.
func TestShareADriverThatCannotPauseKeepsTheOldTable(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, ProtocolMemSlots)
	s := newSupply(t, 8, 2)
	f, _ := runs(t, r, s, func(c *FrontendConfig) { c.Pause = time.Millisecond })
	resumed := 0
	f.SetPauser(pauser{func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, func() { resumed++ }})
	before := len(r.log())
	if _, is := errors.AsType[*PauseError](s.arrive(t.Context(), 3)); !is {
		t.Error("memory arrived without a pause")
	}
	if got := r.log()[before:]; len(got) != 0 || resumed != 1 {
		t.Errorf("sent %q, resumed %d times", got, resumed)
	}
	covers(t, r.table(), s, 0, 1)
}

// Ten extents with holes between them are more than a table takes: the smallest
// holes are shared too, and that is told.
func TestShareWithoutSlotsIsCompact(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, ProtocolMemSlots)
	s := newSupply(t, 40, 1)
	f := front(t, r.path, s, nil)
	for i := range 9 {
		ok(t, s.arrive(t.Context(), 2+4*i))
	}
	if i := f.Info().Share; i.Regions != 8 || i.Used != 10*extentBytes || i.Waste() != (1+3)*extentBytes {
		t.Errorf("told operators %+v, waste %d", i, i.Waste())
	}
	for i := range 9 {
		ok(t, s.leave(t.Context(), 2+4*i))
	}
	covers(t, r.table(), s, 0)
	if err := s.leave(t.Context(), 0); err == nil {
		t.Error("an empty table was sent")
	}
}

func TestShareSlotsThatRunOutAreCompacted(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0, func(r *referee) { r.slots = 10 })
	s := newSupply(t, 64, 1)
	f, _ := runs(t, r, s, nil)
	for i := range 16 {
		ok(t, s.arrive(t.Context(), 3+3*i))
	}
	i := f.Info().Share
	if i.Tables == 0 || i.Used != 17*extentBytes || i.Regions > 10 || i.Waste() == 0 {
		t.Errorf("told operators %+v", i)
	}
	for i := range 16 {
		ok(t, s.leave(t.Context(), 3+3*i))
	}
	covers(t, r.table(), s, 0)
}

// Two supplies of scattered extents need two regions at least; a back-end with
// one slot cannot have both, and what it has it keeps.
func TestShareWhatDoesNotFitIsRefusedWithAPlanError(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0, func(r *referee) { r.slots = 1 })
	s, other := newSupply(t, 4, 1), newSupply(t, 4, 0)
	f := front(t, r.path, s, nil)
	s.extents = append(s.extents, other.extents[2])
	if _, is := errors.AsType[*memtable.PlanError](s.arrive(t.Context(), 4)); !is {
		t.Error("two files are in one region")
	}
	covers(t, r.table(), s, 0)
	if i := f.Info().Share; i.Refused != 1 {
		t.Errorf("told operators %+v", i)
	}
	ok(t, s.arrive(t.Context(), 1))
	covers(t, r.table(), s, 0, 1)
}

func TestShareMemoryWithoutAFileIsLeftOut(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	s := newSupply(t, 4, 1)
	s.extents[2].FD = -1
	f := front(t, r.path, s, nil)
	ok(t, s.arrive(t.Context(), 1, 2))
	covers(t, r.table(), s, 0, 1)
	for i, want := range []bool{true, true, false, false} {
		if got := f.Shares(s.extents[i].Addr, extentBytes); got != want {
			t.Errorf("extent %d is shared: %v", i, got)
		}
	}
	if f.Shares(s.extents[1].Addr+1, extentBytes) || f.Shares(s.extents[1].Addr+extentBytes-1, ^uint64(0)) {
		t.Error("more is shared than there is")
	}
	d := newHandDriver(f, s, 0, 2*extentBytes)
	if _, err := f.Connect(t.Context(), 0, d.placement(0)); !errors.Is(err, ErrNotShared) {
		t.Errorf("a ring in memory that is not shared: %v", err)
	}
	ok(t, s.leave(t.Context(), 1, 2))
	covers(t, r.table(), s, 0)
}

// A gap that is closed for want of regions may be where the source has memory
// without a file: the back-end has what the file has there, and not that memory.
func TestShareMemoryWithoutAFileInAGapThatIsClosedIsNotShared(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, ProtocolMemSlots)
	s := newSupply(t, 2*maxRegions+3, 1)
	s.extents[1].FD = -1
	f := front(t, r.path, s, nil)
	ok(t, s.arrive(t.Context(), 1))
	for i := 2; i < len(s.extents); i += 2 { // two more than there may be regions
		ok(t, s.arrive(t.Context(), i))
	}
	if !slices.ContainsFunc(r.table(), func(r sharedRegion) bool { return r.touches(s.extents[1]) }) {
		t.Fatal("the gap is not closed")
	}
	for _, i := range []int{0, 1, 2, 3, 4} {
		if got := f.Shares(s.extents[i].Addr, extentBytes); got != (i%2 == 0) {
			t.Errorf("extent %d is shared: %v", i, got)
		}
	}
	if _, err := f.Connect(t.Context(), 0, newHandDriver(f, s, 0, extentBytes).placement(0)); !errors.Is(err, ErrNotShared) {
		t.Errorf("a ring in the gap: %v", err)
	}
}

// The address that a device is told can be another one than the driver's own.
func TestShareTellsBothAddresses(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	s := newSupply(t, 4, 2)
	for i := range s.extents {
		s.extents[i].Addr = memtable.IOVA(0x1_0000_0000 + 2*extentBytes*i)
	}
	s.there = slices.Clone(s.extents[:3])
	f := front(t, r.path, s, nil)
	covers(t, r.table(), s, 0, 1, 2)
	line, err := f.Connect(t.Context(), 0, newHandDriver(f, s, 0, 0).placement(0))
	if err != nil || line == nil {
		t.Error(err)
	}
	wrong := newHandDriver(f, s, 1, 0).placement(0)
	wrong.Used.Addr = s.extents[1].Addr
	if _, err := f.Connect(t.Context(), 1, wrong); !errors.Is(err, ErrNotShared) {
		t.Errorf("a used ring whose two addresses are not one place: %v", err)
	}
	ok(t, f.Accept(t.Context(), virtio.FeatureVersion1)) // no ring runs
}
