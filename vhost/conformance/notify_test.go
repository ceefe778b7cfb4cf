package conformance

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/virtio"
)

// Rule 122 (virtio 1.2, 2.7.7.2): with EVENT_IDX the driver is called exactly when the used index passes used_event, also where the index wraps at 2^16.
func TestUsedEventIsPassedOverTheWrap(t *testing.T) {
	const burst, events = 4, 6 // an event before the burst, at each of its chains, and behind it
	f := plug(t, entropy(), options{features: virtio.FeatureEventIdx})
	s := f.session()
	r := f.ring(0)
	for turn := range uint16(burst * events) {
		r.begin(65535 - burst*events + turn)
		r.usedEvent(r.avail)
		r.start()
		r.works() // what a call may be owed for from before the start is behind us
		eventually(t, "the device waits for a kick", r.idle)
		r.call = newEventfd(t)
		must(t, f.SetVringCall(0, r.call)) // when it is acknowledged, the old file has been told
		f.signalled(r.call)                // and once the new one, for what the old one was told
		for i := range uint16(events) {
			before, start, shift := r.info(s).Stats.Calls, r.avail, (i+turn)%events
			r.usedEvent(start + shift - 1)
			for range burst {
				r.lay()
			}
			r.ringKick()
			r.returned()
			eventually(t, "the device waits for a kick", r.idle)
			calls, want := r.info(s).Stats.Calls-before, uint64(0)
			if shift >= 1 && shift <= burst {
				want = 1
				f.signalled(r.call)
			}
			if calls != want || takeSignal(r.call) {
				t.Fatalf("used index %d to %d, used_event %d: %d calls, want %d", start, start+burst, start+shift-1, calls, want)
			}
		}
		r.stop()
	}
}

// Rule 123★ (virtio 1.2, 2.7.10): after it has asked for kicks again the device looks once more: a chain that came between its last look and that, without a kick, is served.
func TestDeviceLooksAgainWhenItHasAskedForKicks(t *testing.T) {
	for _, features := range []virtio.Features{0, virtio.FeatureEventIdx} {
		dev := entropy()
		looked, goOn := make(chan struct{}), make(chan struct{})
		var watched atomic.Bool // not while the ring starts: that waits for the worker
		dev.serve = func(q *virtio.Queue) error {
			err := dev.work(q)
			if !watched.Load() {
				return err
			}
			select {
			case looked <- struct{}{}: // it has seen the ring empty, and has not asked
				select {
				case <-goOn:
				case <-t.Context().Done():
				}
			case <-goOn: // the test is done with this
			case <-t.Context().Done():
			}
			return err
		}
		f := plug(t, dev, options{features: features})
		r := f.ring(0)
		r.start()
		watched.Store(true)
		r.ringKick()
		receive(t, "the first look", looked)
		for i := range 2 * ringSize {
			r.lay()
			if i > 0 && r.kickWanted(r.avail-1) { // what it asked for before it was first woken stands
				t.Fatal("the device asks for kicks while it looks by itself")
			}
			goOn <- struct{}{}
			receive(t, "the next look", looked)
			if r.used() != r.avail {
				t.Fatal("it did not see the chain")
			}
		}
		close(goOn)
	}
}

// kickWanted says whether the device wants to hear that avail.idx moved from old
// to where it is.
func (r *ring) kickWanted(old uint16) bool {
	if r.f.features.Has(virtio.FeatureEventIdx) {
		event := uint16(load32(r.bytes(usedAt)[4+8*ringSize:]))
		return r.avail-event-1 < r.avail-old
	}
	return load32(r.bytes(usedAt))&1 == 0 // VIRTQ_USED_F_NO_NOTIFY
}

// Rule 127★ (virtio 1.2, 2.7.7.2): between publishing used elements and reading used_event the device has a full barrier, and between asking for a kick and its last look another: no driver that keeps the same order sleeps for ever.
func TestNoNotificationIsLost(t *testing.T) {
	rounds := 5_000
	if testing.Short() {
		rounds = 1_000
	}
	f := plug(t, entropy(), options{features: virtio.FeatureEventIdx})
	r := f.ring(0)
	r.start()
	fence := make([]byte, 8)
	for range rounds {
		old := r.avail
		r.lay() // an exchange: what follows is read later
		if r.kickWanted(old) {
			r.ringKick()
		}
		r.usedEvent(old)
		swap32(fence, 0)
		for end := time.Now().Add(*patience); r.used() != r.avail; {
			poll := []unix.PollFd{{Fd: int32(r.call), Events: unix.POLLIN}}
			_, _ = unix.Poll(poll, int(time.Until(end)/time.Millisecond))
			takeSignal(r.call)
			if time.Now().After(end) {
				t.Fatalf("chain %d: used index %d, and the driver was not called", r.avail, r.used())
			}
		}
	}
}
