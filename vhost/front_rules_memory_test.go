package vhost

import (
	"errors"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

// Rule F11 (vhost-user, Memory access): The memory is told before any ring is.
func TestFrontTellsMemoryBeforeRings(t *testing.T) {
	inOrder(t, lived(t, newReferee(t, 0)), "SET_FEATURES", "ADD_MEM_REG", "SET_VRING_ADDR")
	inOrder(t, lived(t, newReferee(t, ProtocolMemSlots)), "SET_FEATURES", "SET_MEM_TABLE", "SET_VRING_ADDR")
}

// Rule F12 (vhost-user, SET_MEM_TABLE): Every region has one file, and memory
// without a file is no region.
func TestFrontSendsOneFileForEveryRegion(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, ProtocolMemSlots) // the referee counts the files
	s, other := newSupply(t, 8, 2), newSupply(t, 2, 0)
	s.extents[5].FD = -1
	s.extents = append(s.extents, other.extents...)
	front(t, r.path, s, nil)
	ok(t, s.arrive(t.Context(), 3, 5, 9))
	covers(t, r.table(), s, 0, 1, 3, 9)
}

// Rule F13 (vhost-user, GET_MAX_MEM_SLOTS): A table has eight regions at most,
// and slots are never more than the back-end said.
func TestFrontNeverTellsMoreRegionsThanThereMayBe(t *testing.T) {
	noLeaks(t)
	for _, without := range []ProtocolFeatures{0, ProtocolMemSlots} {
		r := newReferee(t, without, func(r *referee) { r.slots = 9 })
		s, supplies := newSupply(t, 1, 1), []*supply{}
		for range 9 {
			supplies = append(supplies, newSupply(t, 1, 0))
			s.extents = append(s.extents, supplies[len(supplies)-1].extents...)
		}
		front(t, r.path, s, nil)
		var err error
		for i := 1; err == nil && i < len(s.extents); i++ {
			err = s.arrive(t.Context(), i)
		}
		if e, is := errors.AsType[*memtable.PlanError](err); !is || e.Regions != 8 {
			t.Errorf("ten files fit: %v", err)
		}
	}
}

// Rule F14★ (QEMU 7.2): A region is added once per device, not once per ring or
// pair.
func TestFrontAddsARegionOnce(t *testing.T) {
	if n := count(lived(t, newReferee(t, 0)), "ADD_MEM_REG"); n != 3 {
		t.Errorf("3 extents were added in %d messages", n)
	}
}

// Rule F15★ (vhost-user, REM_MEM_REG): REM_MEM_REG comes without a file.
func TestFrontRemovesARegionWithoutAFile(t *testing.T) {
	if n := count(lived(t, newReferee(t, 0)), "REM_MEM_REG"); n != 1 { // the referee looks for files
		t.Errorf("%d regions were removed", n)
	}
}

// Rule F16 (vhost-user, REPLY_ACK): Memory is used, or lost, only after the
// back-end has acknowledged it, or has passed GET_FEATURES.
func TestFrontWaitsForTheBackEndToHaveTheMemory(t *testing.T) {
	noLeaks(t)
	for _, without := range []ProtocolFeatures{0, ProtocolReplyAck, ProtocolMemSlots, ProtocolMemSlots | ProtocolReplyAck} {
		r := newReferee(t, without)
		s := newSupply(t, 4, 2)
		front(t, r.path, s, nil)
		ok(t, s.arrive(t.Context(), 3))
		covers(t, r.table(), s, 0, 1, 3)
		ok(t, s.leave(t.Context(), 3))
		covers(t, r.table(), s, 0, 1)
	}
}

// Rule F17 (vhost-user, ADD_MEM_REG): No two regions that are alive overlap, and
// none changes its shape.
func TestFrontARegionThatWasNotTakenBackIsNotAddedAgain(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	s := newSupply(t, 4, 2)
	front(t, r.path, s, nil)
	r.follow(func(m *message) action { return action{refuse: Request(m.Request) == RemMemReg} })
	if _, is := errors.AsType[*RefusedError](s.leave(t.Context(), 1)); !is {
		t.Error("memory left that the back-end keeps")
	}
	// The source gives it out again, or tries once more.
	ok(t, s.mirror.Arrive(t.Context(), s.pick([]int{1})))
	r.follow(nil)
	ok(t, s.leave(t.Context(), 1))
	covers(t, r.table(), s, 0)
}
