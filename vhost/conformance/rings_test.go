package conformance

import (
	"testing"

	"github.com/vhostd/vhostd/virtio"
)

// Rule 65★ (QEMU with a guest's boot loader): of a device's rings those that were configured run, however few they are.
func TestOneConfiguredRingOfManyRuns(t *testing.T) {
	for i := range 4 {
		f := plug(t, network(), options{})
		r := f.ring(i)
		r.start()
		r.works()
		f.signalled(r.call)
	}
}

// Rule 66★ (vhost-user, "Ring states"): starting a second ring does not disturb the first.
func TestRingStartedLaterDisturbsNoOther(t *testing.T) {
	f := plug(t, network(), options{})
	var rings []*ring
	for i := range 4 {
		r := f.ring(i)
		for _, other := range rings {
			other.lay() // under way while the next starts
			other.ringKick()
		}
		r.start()
		rings = append(rings, r)
		for _, other := range rings {
			other.returned()
			other.works()
		}
	}
	for i, r := range rings {
		if base, want := r.stop(), uint16(7-2*i); base != want {
			t.Errorf("ring %d stopped at %d, want %d", i, base, want)
		}
	}
}

// Rule 67★ (virtio 1.2, 2.7.7): EVENT_IDX is in force as soon as it is agreed on, though no SET_VRING_BASE comes.
func TestEventIndexNeedsNoBase(t *testing.T) {
	f := plug(t, entropy(), options{features: virtio.FeatureEventIdx})
	s := f.session()
	r := f.ring(0)
	r.usedEvent(1) // a call with the second
	must(t, f.SetVringNum(0, ringSize))
	must(t, f.SetVringAddr(r.addr()))
	must(t, f.SetVringCall(0, r.call))
	must(t, f.SetVringKick(0, r.kick))
	must(t, f.SetVringEnable(0, true))
	r.works()
	eventually(t, "a kick is asked for with the next", func() bool { return r.availEvent() == 1 })
	if n := r.info(s).Stats.Calls; n != 0 {
		t.Errorf("%d calls, and none was asked for", n)
	}
	r.works()
	f.signalled(r.call)
}
