package vhost

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/vhostd/vhostd/virtio"
)

// Rule F18 (QEMU 7.2): A ring is told its size, position, place and call file
// before its kick file, which starts it.
func TestFrontTellsTheKickFileLast(t *testing.T) {
	log := lived(t, newReferee(t, 0))
	inOrder(t, log, "SET_VRING_NUM", "SET_VRING_BASE", "SET_VRING_ADDR", "SET_VRING_CALL", "SET_VRING_KICK", "SET_VRING_ENABLE")
}

// Rule F19★ (vhost-user, SET_VRING_KICK): The kick file is written to once when
// it was sent, for back-ends that start with the first kick.
func TestFrontKicksWhenARingStarts(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	runs(t, r, newSupply(t, 4, 2), nil)
	eventually(t, "a kick comes", func() (kicked bool) {
		r.look(func(m *match) { kicked = readable(m.rings[0].kick) })
		return kicked
	})
}

// Rule F20★ (vhost-user, SET_VRING_ENABLE): Rings are enabled, and that is
// acknowledged, before DRIVER_OK.
func TestFrontEnablesRingsBeforeTheDriverIsReady(t *testing.T) {
	inOrder(t, lived(t, newReferee(t, 0)), "SET_VRING_ENABLE ring 0: 1", "SET_STATUS 0xf")
	noAck := lived(t, newReferee(t, ProtocolReplyAck))
	inOrder(t, noAck, "SET_VRING_ENABLE ring 0: 1", "GET_FEATURES", "SET_STATUS 0xf")
}

// Rule F21 (QEMU 7.2): Rings that do not exist are not enabled; rings that are
// not wanted stay disabled.
func TestFrontEnablesOnlyRingsThatThereAre(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	s := newSupply(t, 4, 2)
	f := front(t, r.path, s, nil)
	if f.Enable(t.Context(), 4, true) == nil || f.Enable(t.Context(), -1, true) == nil {
		t.Error("ring 4 of 4 was enabled")
	}
	ok(t, f.Enable(t.Context(), 0, false))
	newHandDriver(f, s, 0, 0).fresh(t)
	ok(t, f.Start(t.Context()))
	if count(r.log(), "SET_VRING_ENABLE") != 0 {
		t.Error("a ring that is not wanted was enabled")
	}
	ok(t, f.Enable(t.Context(), 0, true))
	r.look(func(m *match) {
		if !m.rings[0].enabled {
			t.Error("the ring is disabled")
		}
	})
}

// Rule F22 (vhost-user, GET_VRING_BASE): A ring is stopped by GET_VRING_BASE
// before it is used again.
func TestFrontStopsEveryRingThatRuns(t *testing.T) {
	log := lived(t, newReferee(t, 0)) // the referee would see a ring told of while it runs
	if count(log, "GET_VRING_BASE ring 0: 0") != 1 {
		t.Errorf("sent %q", log)
	}
}

// Rule F23 (vhost-user, GET_VRING_BASE): A ring goes on at the position that the
// back-end gave.
func TestFrontGivesThePositionThatTheBackEndGave(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0, func(r *referee) { r.base = func(int, uint32) uint32 { return 0xfedc } })
	f, d := runs(t, r, newSupply(t, 4, 2), nil)
	at, err := f.Disconnect(t.Context(), 0)
	ok(t, err)
	d.connect(t, at)
	inOrder(t, r.log(), "GET_VRING_BASE", "SET_VRING_BASE ring 0: 65244")
}

// Rule F24★ (virtio 1.2, 2.8): A position of a packed ring whose upper half is
// zero, as DPDK answers, is used for both halves; one with both is kept.
func TestFrontAPackedPositionMayBeHalf(t *testing.T) {
	noLeaks(t)
	for given, want := range map[uint32]virtio.Position{0x8003: 0x8003_8003, 0x0001_8003: 0x0001_8003} {
		r := newReferee(t, 0, func(r *referee) {
			r.features |= virtio.FeaturePacked
			r.base = func(int, uint32) uint32 { return given }
		})
		s := newSupply(t, 4, 2)
		f := front(t, r.path, s, nil)
		ok(t, f.Accept(t.Context(), virtio.FeatureVersion1|virtio.FeaturePacked))
		newHandDriver(f, s, 0, 0).connect(t, 0x8000_8000)
		ok(t, f.Start(t.Context()))
		if at, err := f.Disconnect(t.Context(), 0); err != nil || at != want {
			t.Errorf("%#x was taken for %#x (%v)", given, at, err)
		}
	}
}

// Rule F25★ (QEMU 7.2): The status is 0 only after all rings were stopped.
func TestFrontResetsTheStatusAfterTheRings(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, ProtocolResetDevice)
	f, _ := runs(t, r, newSupply(t, 4, 2), nil)
	ok(t, f.Reset(t.Context()))
	inOrder(t, r.log(), "GET_VRING_BASE", "SET_STATUS 0x0")
}

// Rule F26★ (QEMU 7.2): The status is 0x8 when features are agreed on and 0xf
// when the driver is ready, for every type of device.
func TestFrontDrivesTheStatusOfEveryDevice(t *testing.T) {
	noLeaks(t)
	for _, id := range []virtio.DeviceID{virtio.Net, virtio.Block, virtio.Vsock, virtio.FS} {
		r := newReferee(t, 0)
		runs(t, r, newSupply(t, 4, 2), func(c *FrontendConfig) { c.Device = id })
		inOrder(t, r.log(), "SET_FEATURES", "SET_STATUS 0x8", "SET_VRING_NUM", "SET_STATUS 0xf")
	}
}

// Rule F27 (virtio 1.2, 2.6.1): RING_RESET is not offered to the driver: a ring
// is reset by stopping it.
func TestFrontOffersNoRingReset(t *testing.T) {
	noLeaks(t)
	f := front(t, newReferee(t, 0).path, newSupply(t, 4, 2), nil)
	if f.Features().Has(virtio.FeatureRingReset) || !f.Info().Offered.Has(virtio.FeatureRingReset) {
		t.Errorf("offered %v", f.Features().Names(virtio.Entropy))
	}
}

// Rule F38★ (virtio 1.2, 2.7.7): What was used is looked for when a ring was
// connected, since it may have been told to a call file that is gone.
func TestFrontANewLineIsLookedAtOnce(t *testing.T) {
	noLeaks(t)
	_, d := runs(t, newReferee(t, 0), newSupply(t, 4, 2), nil)
	within(t, "the first wait", func() { ok(t, d.line.Wait(t.Context())) })
}

// Rule F39 (vhost-user, Back-end message types): A request of the back-end is
// answered by a number with flags 5 when it asks for an answer; 1 for what is
// not known.
func TestFrontAnswersTheBackEnd(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	front(t, r.path, newSupply(t, 4, 2), nil)
	r.look(func(m *match) {
		channel := &Conn{w: m.channel, protocol: ProtocolReplyAck}
		for _, request := range []BackendRequest{BackendIOTLBMsg, BackendVringHostNotifier, BackendSharedObjectLookup, 99} {
			if err := channel.tell(Request(request), U64(0)); !errors.As(err, new(*RefusedError)) {
				t.Errorf("%v: %v", request, err)
			}
		}
		ok(t, channel.tell(Request(BackendConfigChange), nil))
	})
}

// Rule F40 (vhost-user, CONFIG_CHANGE_MSG): The driver is told to read the
// configuration space again, and reads what is there then.
func TestFrontTellsOfChangesOfTheConfigSpace(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	f := front(t, r.path, newSupply(t, 4, 2), nil)
	r.look(func(m *match) {
		m.config[9] = 77
		ok(t, (&Conn{w: m.channel}).tell(Request(BackendConfigChange), nil))
	})
	event(t, f, virtio.ConfigChanged)
	p := make([]byte, 2)
	if ok(t, f.ReadConfig(t.Context(), 8, p)); !bytes.Equal(p, []byte{8, 77}) {
		t.Errorf("read %v", p)
	}
}

// Rule F41 (vhost-user, SET_CONFIG): A write has the offset and size of what
// changes, and flags 0.
func TestFrontWritesOnlyWhatChanges(t *testing.T) {
	inOrder(t, lived(t, newReferee(t, 0)), "SET_CONFIG 1 bytes at 8, flags 0")
}

// Rule F42 (vhost-user, GET_CONFIG): An answer of another size is refused, and
// an empty one is the back-end's no.
func TestFrontTakesNoConfigSpaceOfAnotherSize(t *testing.T) {
	noLeaks(t)
	r := newReferee(t, 0)
	f := front(t, r.path, newSupply(t, 4, 2), nil)
	r.follow(func(m *message) action { return action{raw: packet(GetConfig, 5, nil)} })
	if err := f.ReadConfig(t.Context(), 0, make([]byte, 4)); !errors.As(err, new(*RefusedError)) || errors.Is(err, ErrLost) {
		t.Errorf("no config space: %v", err)
	}
	r.follow(func(m *message) action {
		return action{raw: packet(GetConfig, 5, bytesOf(Config{Size: 3, Data: make([]byte, 3)}))}
	})
	if err := f.ReadConfig(t.Context(), 0, make([]byte, 4)); !errors.Is(err, ErrLost) {
		t.Errorf("3 bytes for 4: %v", err)
	}
	r.follow(nil)
}

// Rule F45 (vhost-user, RESET_DEVICE): The device is reset only where there is a
// message for it, and rings are enabled anew afterwards.
func TestFrontEnablesRingsAgainAfterAReset(t *testing.T) {
	noLeaks(t)
	for _, without := range []ProtocolFeatures{0, ProtocolResetDevice} {
		r := newReferee(t, without)
		s := newSupply(t, 4, 2)
		f, d := runs(t, r, s, nil)
		ok(t, f.Reset(t.Context()))
		if n := count(r.log(), "RESET_DEVICE"); (n == 0) != (without == ProtocolResetDevice) {
			t.Errorf("RESET_DEVICE was sent %d times", n)
		}
		ok(t, f.Accept(t.Context(), virtio.FeatureVersion1))
		d.fresh(t)
		ok(t, f.Start(t.Context()))
		log := r.log()
		inOrder(t, log[slices.Index(log, "SET_STATUS 0x0"):], "SET_VRING_ENABLE ring 0: 1")
	}
}
