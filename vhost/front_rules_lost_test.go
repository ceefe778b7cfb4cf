package vhost

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/virtio"
)

// readable says whether fd could be read now.
func readable(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1 && p[0].Revents&unix.POLLIN != 0
}

// Rule F9★ (QEMU 7.2): No wait for an answer is without an end.
func TestFrontGivesUpOnABackEndThatDoesNotAnswer(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0, func(r *referee) {
		r.script = func(m *message) action { return action{silent: true} }
	})
	within(t, "Dial", func() {
		if _, err := Dial(t.Context(), r.path, FrontendConfig{Device: virtio.Entropy, Memory: newSupply(t, 1, 1), Timeout: 20 * time.Millisecond}); err == nil {
			t.Error("there is a back-end")
		}
	})
}

// Rule F29★ (QEMU 7.2): After a loss everything is said again, also while the
// device is stopped; a split ring goes on at its used index.
func TestFrontAfterALossARingGoesOnAtItsUsedIndex(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	s := newSupply(t, 4, 2)
	f, d := runs(t, r, s, nil)
	order.PutUint16(s.mem[2*guestPage+2:], 7) // what the back-end gave back
	r.last().c.Close()
	event(t, f, virtio.Lost)
	if e := event(t, f, virtio.Back); !e.Resumes {
		t.Error("the record of what was in flight is not used")
	}
	inOrder(t, r.log(), "GET_FEATURES", "SET_OWNER", "SET_FEATURES", "SET_STATUS 0x8", "ADD_MEM_REG")
	d.connect(t, 3)
	ok(t, f.Start(t.Context()))
	inOrder(t, r.log(), "SET_VRING_BASE ring 0: 7", "SET_VRING_KICK")
}

// Rule F30★ (QEMU 7.2): Protocol features, memory and the record of what is in
// flight are told at every connection, the record being the same one.
func TestFrontGivesTheSameRecordToTheNextBackEnd(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	s := newSupply(t, 4, 2)
	f, d := runs(t, r, s, nil)
	var records []sentRecord
	for range 2 {
		r.look(func(m *match) { records = append(records, m.recorded...) })
		r.last().c.Close()
		event(t, f, virtio.Lost)
		event(t, f, virtio.Back)
		d.connect(t, 0)
		ok(t, f.Start(t.Context()))
		covers(t, r.table(), s, 0, 1)
		if log := r.log(); count(log, "GET_INFLIGHT_FD") != 0 {
			t.Errorf("a new record was asked for: %q", log)
		}
		inOrder(t, r.log(), "SET_PROTOCOL_FEATURES", "ADD_MEM_REG", "SET_INFLIGHT_FD", "SET_VRING_KICK")
	}
	r.look(func(m *match) { records = append(records, m.recorded...) })
	if len(records) != 3 || records[1] != records[0] || records[2] != records[0] {
		t.Errorf("the records were %v", records)
	}
}

// Rule F31★ (QEMU 7.2): Between attempts to connect there is a pause, which
// grows.
func TestFrontPausesBetweenAttempts(t *testing.T) {
	noLeaks(t)
	times := make(chan time.Time, 100)
	r := newReferee(t, 0, func(r *referee) { r.met = func() { times <- time.Now() } })
	f := front(t, r.path, newSupply(t, 4, 2), nil)
	<-times
	r.follow(func(*message) action { return action{hangUp: true} })
	start := time.Now()
	r.last().c.Close()
	for range 5 {
		<-times
	}
	// Half of 10, 20, 40, 80 and 160 ms at least.
	if took := time.Since(start); took < 155*time.Millisecond {
		t.Errorf("five attempts in %v", took)
	}
	r.follow(nil)
	event(t, f, virtio.Lost)
	event(t, f, virtio.Back)
}

// Rule F32 (QEMU 7.2): After a reset a new record is asked for, and it is given
// before rings start.
func TestFrontAsksForANewRecordAfterAReset(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	f, d := runs(t, r, newSupply(t, 4, 2), nil)
	ok(t, f.Reset(t.Context()))
	ok(t, f.Accept(t.Context(), virtio.FeatureVersion1))
	d.fresh(t)
	ok(t, f.Start(t.Context()))
	inOrder(t, r.log(), "GET_INFLIGHT_FD", "SET_INFLIGHT_FD", "SET_VRING_NUM", "GET_INFLIGHT_FD", "SET_INFLIGHT_FD", "SET_VRING_NUM")
}

func TestFrontendResumesWithoutARecordOnlyInOrder(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, ProtocolInflightSHMFD, func(r *referee) { r.features |= virtio.FeatureInOrder })
	f := front(t, r.path, newSupply(t, 4, 2), nil)
	for _, in := range []virtio.Features{0, virtio.FeatureInOrder} {
		ok(t, f.Accept(t.Context(), virtio.FeatureVersion1|in))
		r.last().c.Close()
		event(t, f, virtio.Lost)
		if e := event(t, f, virtio.Back); e.Resumes != (in != 0) {
			t.Errorf("with features %#x: %+v", in, e)
		}
	}
}

func TestFrontendTellsOfARingThatTheBackEndGaveUp(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	runsOn := newSupply(t, 4, 2)
	f := front(t, r.path, runsOn, nil)
	newHandDriver(f, runsOn, 2, 0).fresh(t)
	ok(t, f.Start(t.Context()))
	r.look(func(m *match) { ok(t, addEventfd(m.rings[2].err)) })
	if e := event(t, f, virtio.QueueBroken); e.Queue != 2 {
		t.Errorf("ring %d is broken", e.Queue)
	}
}

// A start that is refused half-way leaves no ring running, and can be tried
// again.
func TestFrontendAStartThatFailsLeavesNothingRunning(t *testing.T) {
	noLeaks(t)
	for _, fails := range []Request{SetInflightFD, SetVringNum, SetVringKick, SetVringEnable, SetStatus} {
		r := newReferee(t, 0)
		s := newSupply(t, 4, 2)
		f := front(t, r.path, s, nil)
		newHandDriver(f, s, 0, 0).fresh(t)
		newHandDriver(f, s, 1, extentBytes).fresh(t)
		seen := 0
		r.follow(func(m *message) action {
			if Request(m.Request) != fails {
				return action{}
			}
			seen++
			return action{refuse: seen == 2 || fails == SetStatus || fails == SetInflightFD}
		})
		if err := f.Start(t.Context()); !errors.As(err, new(*RefusedError)) {
			t.Errorf("%v was refused: %v", fails, err)
		}
		r.look(func(m *match) {
			if m.anyRunning() {
				t.Errorf("a ring runs though %v was refused", fails)
			}
		})
		r.follow(nil)
		ok(t, f.Start(t.Context()))
	}
}

func TestFrontendShowsWhatItSaid(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	f, _ := runs(t, r, newSupply(t, 4, 2), nil)
	i := f.Info()
	if !i.Connected || i.Connections != 1 || !strings.HasPrefix(i.Peer, "pid ") || i.Queues != 4 {
		t.Errorf("told operators %+v", i)
	}
	if !slices.ContainsFunc(i.Messages, func(m MessageInfo) bool { return m.Request == "SET_VRING_NUM" && m.Result == "ok" }) {
		t.Errorf("the messages are %+v", i.Messages)
	}
}
