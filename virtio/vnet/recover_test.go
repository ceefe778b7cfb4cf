package vnet_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// A device that is back and cannot be brought up is tried again, until it can.
func TestADeviceThatDoesNotComeUpIsTriedAgain(t *testing.T) {
	for _, op := range []string{"connect", "start"} {
		t.Run(op, func(t *testing.T) {
			s := newStub(0)
			r := stubbed(t, s, rigOptions{})
			s.lose()
			s.failing(once(op))
			s.events <- virtio.TransportEvent{Kind: virtio.Back}
			r.change(vnet.DeviceBroken)
			eventually(t, "the device is up", func() bool { return r.Stats().Present })
		})
	}
}

// A driver whose rings have all buffers that there are recovers: what the device
// had is the next one's.
func TestAResetNeedsNoMoreBuffersThanThereAre(t *testing.T) {
	s := newStub(0)
	r := stubbed(t, s, rigOptions{count: 64})
	before := r.Stats().Rx[0].Lent
	s.events <- virtio.TransportEvent{Kind: virtio.NeedsReset, Err: errTest}
	eventually(t, "the device was reset", func() bool { return r.Stats().Restarts > 0 && r.Stats().Present })
	if now := r.Stats().Rx[0].Lent; now != before {
		t.Errorf("%d buffers are posted, there were %d", now, before)
	}
}

// Pairs that go out of use wait for frames. A device that dies meanwhile, and
// Close, are not kept from anything by that.
func TestNothingWaitsForFramesOfPairsThatGoOutOfUse(t *testing.T) {
	for name, event := range map[string]func(s *stub, r *rig){
		"the device dies": func(s *stub, r *rig) {
			s.lose()
			s.events <- virtio.TransportEvent{Kind: virtio.Back}
			r.change(vnet.DeviceBack)
		},
		"a ring breaks, and the device dies": func(s *stub, r *rig) {
			s.events <- virtio.TransportEvent{Kind: virtio.QueueBroken, Queue: 0, Err: errTest}
			s.lose()
			s.events <- virtio.TransportEvent{Kind: virtio.Back}
			r.change(vnet.DeviceBack)
		},
		"close": func(_ *stub, r *rig) { r.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStub(vnet.FeatureMQ)
			r := stubbed(t, s, rigOptions{pairs: 2})
			w := r.worker(1, 64)
			w.send(5)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			ended := make(chan error)
			go func() { ended <- r.SetPairs(ctx, 1) }()
			eventually(t, "pair 1 is held", func() bool { return w.send(1) == 0 })
			event(s, r)
			if err := <-ended; errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
}

// A pair that could not be taken out of use is used on.
func TestAPairThatIsNotDisabledIsUsedOn(t *testing.T) {
	s := newStub(vnet.FeatureMQ)
	r := stubbed(t, s, rigOptions{pairs: 2})
	s.failing(once("disable"))
	if err := r.SetPairs(t.Context(), 1); !errors.Is(err, errTest) {
		t.Fatal(err)
	}
	if n := r.worker(1, 64).send(1); n != 1 || r.Stats().Pairs != 2 {
		t.Errorf("pair 1 sends %d frames, and %d pairs are in use", n, r.Stats().Pairs)
	}
}

// The memory of rings vanishes: that is no crash, and every buffer is back in the
// end (rig.balance), whatever happens next.
func TestRingsThatVanishAreNoCrash(t *testing.T) {
	for name, event := range map[string]func(s *stub, r *rig){
		"close": func(*stub, *rig) {},
		"lost":  func(s *stub, r *rig) { s.lose() },
		"back, as it was": func(s *stub, r *rig) {
			s.lose()
			s.events <- virtio.TransportEvent{Kind: virtio.Back, Resumes: true}
			r.change(vnet.DeviceBroken)
		},
		"back": func(s *stub, r *rig) {
			s.lose()
			s.events <- virtio.TransportEvent{Kind: virtio.Back}
			r.change(vnet.DeviceBroken)
		},
		"a ring breaks": func(s *stub, r *rig) {
			s.events <- virtio.TransportEvent{Kind: virtio.QueueBroken, Queue: 0, Err: errTest}
			r.change(vnet.DeviceBroken)
		},
		"the device wants a reset": func(s *stub, r *rig) {
			s.events <- virtio.TransportEvent{Kind: virtio.NeedsReset, Err: errTest}
			r.change(vnet.DeviceBroken)
		},
	} {
		t.Run(name, func(t *testing.T) {
			rings := newCuttable(t)
			s := newStub(virtio.FeatureIndirect)
			r := stubbed(t, s, rigOptions{driver: func(c *vnet.DriverConfig) { c.Rings = rings }})
			r.worker(0, 64).send(5)
			rings.cut(0)
			event(s, r)
			r.stop()
			if rings.lent != 0 {
				t.Errorf("%d pieces of the rings' memory were kept", rings.lent)
			}
		})
	}
}

// Rings that vanished and are there again are used again.
func TestRingsThatAreThereAgainAreUsed(t *testing.T) {
	rings := newCuttable(t)
	s := newStub(0)
	r := stubbed(t, s, rigOptions{driver: func(c *vnet.DriverConfig) { c.Rings = rings }})
	rings.cut(0)
	s.events <- virtio.TransportEvent{Kind: virtio.NeedsReset, Err: errTest}
	r.change(vnet.DeviceBroken)
	rings.cut(cuttableBytes)
	eventually(t, "frames go", func() bool { return r.worker(0, 64).send(1) == 1 })
}

// Open that runs out of time leaves nothing behind.
func TestOpenThatRunsOutOfTimeKeepsNothing(t *testing.T) {
	r := bareRig(t, rigOptions{pairs: 1, buffer: 2048, count: 1024})
	s := newStub(0)
	ctx, cancel := context.WithCancel(t.Context())
	s.failing(func(ctx context.Context, op string) error {
		if op == "start" {
			cancel()
		}
		return ctx.Err()
	})
	cfg := r.config()
	cfg.Transport = s
	if d, err := vnet.Open(ctx, cfg); err == nil {
		_ = d.Close(t.Context())
		t.Fatal("opened")
	}
	if n := r.pool.Stats().Lent; n > len(r.caches)*64 {
		t.Errorf("%d buffers are kept", n)
	}
}

// Every ring that breaks is restarted, however often another one does meanwhile.
func TestNoBrokenRingIsForgotten(t *testing.T) {
	s := newStub(vnet.FeatureMQ)
	r := stubbed(t, s, rigOptions{pairs: 2})
	for range 3 {
		for range 100 {
			s.events <- virtio.TransportEvent{Kind: virtio.QueueBroken, Queue: 1, Err: errTest}
		}
		for i := range 4 {
			s.events <- virtio.TransportEvent{Kind: virtio.QueueBroken, Queue: i, Err: errTest}
		}
		time.Sleep(time.Millisecond)
	}
	eventually(t, "every ring sends or receives", func() bool {
		return r.worker(0, 64).send(1) == 1 && r.worker(1, 64).send(1) == 1
	})
}
