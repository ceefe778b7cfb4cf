package conformance

import (
	"bytes"
	"testing"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// Rule 68 (vhost-user, GET_VRING_BASE): a ring that was never started answers with the base that was set, or 0.
func TestBaseOfARingThatNeverRan(t *testing.T) {
	f := plug(t, entropy(), options{})
	must(t, f.SetVringBase(1, 777))
	for i, want := range []virtio.Position{0, 777} {
		if got, err := f.GetVringBase(i); err != nil || got != want {
			t.Errorf("ring %d: base %d, %v; want %d", i, got, err, want)
		}
	}
}

// Rule 69★ (vhost-user, GET_VRING_BASE): what the device has taken is completed, published, logged and signalled before the base is told.
func TestStopWaitsForWhatIsInFlight(t *testing.T) {
	dev := entropy()
	took, goOn := dev.held(t)
	f := plug(t, dev, options{features: virtio.FeatureLogAll})
	s := f.session()
	log := f.log(logBytes)
	r := f.ring(0)
	r.start()
	r.logged()
	for range 3 {
		r.lay()
	}
	r.ringKick()
	receive(t, "the device takes a chain", took)
	type answer struct {
		base virtio.Position
		used uint16 // when it came
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		base, err := f.GetVringBase(0)
		answers <- answer{base, r.used(), err}
	}()
	eventually(t, "the ring is being stopped", func() bool { return !r.info(s).Started })
	still(t, "an answer with a chain in flight", answers)
	goOn <- struct{}{}
	for range 2 {
		receive(t, "the rest of the burst", took)
		goOn <- struct{}{}
	}
	a := receive(t, "the answer", answers)
	must(t, a.err)
	if a.base != 3 || a.used != 3 {
		t.Errorf("base %d with %d chains used, want 3 of both", a.base, a.used)
	}
	if !takeSignal(r.call) {
		t.Error("the driver was not signalled before the answer")
	}
	log.marked(t, r.gpa(dataAt), r.gpa(usedAt))
}

// Rule 70★ (vhost-user, "Virtqueue state"): the base told is the next available index, which the used index need not be.
func TestBaseIsTheNextAvailableIndex(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.setAvail(65530)
	r.setUsed(40)
	r.start()
	for i := range uint16(20) { // over the wrap of the available index
		r.post()
		eventually(t, "the chain comes back", func() bool { return r.used() == 41+i })
	}
	if base := r.stop(); base != 14 {
		t.Errorf("base %d, want 14", base)
	}
}

// Rule 72★ (vhost-user, GET_VRING_BASE): stopping one ring leaves the others running.
func TestStoppingOneRingLeavesTheOthersRunning(t *testing.T) {
	f := plug(t, network(), options{})
	var rings []*ring
	for i := range 4 {
		r := f.ring(i)
		r.start()
		r.works()
		rings = append(rings, r)
	}
	for len(rings) > 1 {
		rings[0].stop()
		rings = rings[1:]
		for _, r := range rings {
			r.works()
		}
	}
	if base := rings[0].stop(); base != 4 {
		t.Errorf("the last ring stopped at %d, want 4", base)
	}
}

// Rule 76★ (vhost-user, SET_VRING_BASE): for a split ring the used index is read from guest memory whenever it starts: a driver may have reset it.
func TestUsedIndexIsReadWhenTheRingStarts(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.start()
	for range 5 {
		r.works()
	}
	for _, used := range []uint16{500, 0, 65535} {
		r.stop()
		r.setUsed(used)
		r.start()
		head := r.post()
		eventually(t, "the chain comes back at the driver's used index", func() bool { return r.used() == used+1 })
		if id, _ := r.elem(used); id != uint32(head) {
			t.Errorf("used element %d names head %d, want %d", used, id, head)
		}
	}
}

// Rule 77★ (QEMU 7.2 behaviour): SET_STATUS 0 before GET_VRING_BASE loses no base.
func TestStatusZeroBeforeTheStopLosesNoBase(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.start()
	must(t, f.SetStatus(0x0f))
	for range 3 {
		r.works()
	}
	must(t, f.SetStatus(0))
	if base := r.stop(); base != 3 {
		t.Errorf("base %d, want 3", base)
	}
}

// Rule 78★ (QEMU 7.2 behaviour): a storage ring that is disabled and then stopped has consumed and failed nothing of what was pending.
func TestDisabledStorageRingConsumesNothing(t *testing.T) {
	f := plug(t, withConfig(), options{})
	r := f.ring(0)
	r.start()
	r.works()
	must(t, f.SetVringEnable(0, false))
	r.post()
	r.post()
	if base := r.stop(); base != 1 || r.used() != 1 {
		t.Fatalf("base %d, %d used: pending requests were consumed", base, r.used())
	}
	r.startAt(1)
	r.returned()
}

// Rule 80★ (vhost-user, "Ring states"): a ring that is stopped and started uses the memory that is there; none is announced again.
func TestRingStartsAgainInTheMemoryThatIsThere(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	for range 5 {
		r.start()
		r.works()
		if base := r.stop(); base != r.avail {
			t.Fatalf("base %d, want %d", base, r.avail)
		}
	}
}

// Rule 81 (vhost-user, "Suspended device state"): while all rings are stopped nothing is written to memory, signalled, or said on the back-end's channel.
func TestSuspendedDeviceIsSilent(t *testing.T) {
	f := plug(t, withConfig(), options{})
	s := f.session()
	channel := f.channel()
	r := f.ring(0)
	r.start()
	r.works()
	f.signalled(r.call)
	r.stop()
	must(t, f.SetVringCall(0, r.call))
	must(t, s.NotifyConfig())
	r.post()
	before := bytes.Clone(f.mem.b)
	heard := channel.hear()
	still(t, "a message on the channel", heard)
	f.alive()
	if !bytes.Equal(before, f.mem.b) {
		t.Error("guest memory was written")
	}
	if takeSignal(r.call) {
		t.Error("the driver was signalled")
	}
	r.startAt(1)
	r.returned()
	if m := receive(t, "the change is told at the start", heard); m.request != configChange {
		t.Errorf("message %v came", m.request)
	}
}

// Rule 82 (vhost-user, "Suspended device state"): while all rings are stopped every question is answered.
func TestSuspendedDeviceAnswers(t *testing.T) {
	f := plug(t, withConfig(), options{})
	r := f.ring(0)
	r.start()
	r.works()
	must(t, f.SetStatus(0x0f))
	r.stop()
	for _, request := range []vhost.Request{
		vhost.GetFeatures, vhost.GetProtocolFeatures, vhost.GetQueueNum, vhost.GetMaxMemSlots, vhost.GetStatus,
	} {
		if f.call(request, 0, nil).u64(t) == 0 {
			t.Errorf("%v: 0", request)
		}
	}
	if p, err := f.GetConfig(0, 32); err != nil || len(p) != 32 {
		t.Errorf("GET_CONFIG: %d bytes, %v", len(p), err)
	}
	if base := r.stop(); base != 1 {
		t.Errorf("base %d, want 1", base)
	}
}

// Rule 83 (vhost-user, SET_VRING_BASE): a ring goes on at the base it is given, also when that is not where it stopped.
func TestRingGoesOnAtTheBaseItIsGiven(t *testing.T) {
	f := plug(t, entropy(), options{})
	s := f.session()
	r := f.ring(0)
	r.start()
	r.works()
	if base := r.stop(); base != 1 {
		t.Fatalf("base %d, want 1", base)
	}
	r.offer(ringSize) // what the front-end served meanwhile; heads that break who looks at them
	r.offer(ringSize)
	r.setUsed(3)
	r.startAt(3)
	r.works()
	if i := r.info(s); i.Broken != "" || r.stop() != 4 {
		t.Errorf("it went on where it had stopped: %+v", i)
	}
}

// Rule 84 (vhost-user, GET_VRING_BASE): asked twice, it answers the same.
func TestBaseIsTheSameWhenAskedAgain(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.begin(9)
	r.start()
	r.works()
	for range 3 {
		if base := r.stop(); base != 10 {
			t.Errorf("base %d, want 10", base)
		}
	}
}
