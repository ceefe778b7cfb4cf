package conformance

import (
	"strings"
	"testing"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

const plain = virtio.FeatureVersion1 | virtio.FeatureProtocol

// Rule 18 (vhost-user, SET_OWNER): SET_OWNER is accepted before the features
// are asked for, as DPDK sends it, and after, as QEMU does.
func TestSetOwnerComesBeforeOrAfterFeatures(t *testing.T) {
	first := connect(t, entropy())
	must(t, first.SetOwner())
	first.agree(options{}) // sends it once more, later
	first.share()
	r := first.ring(0)
	r.start()
	r.works()
}

// Rule 19 (virtio 1.2, 2.2): SET_FEATURES with a bit that was not offered is
// refused, and none of it applies.
func TestFeatureNotOfferedIsRefused(t *testing.T) {
	d := entropy()
	f := plug(t, d, options{})
	d.said()
	for _, extra := range []virtio.Features{virtio.FeaturePacked, 1 << 5, 1 << 63} {
		f.refused(f.SetFeatures(plain | virtio.FeatureIndirect | extra))
	}
	if got := f.session().Features(); got != plain {
		t.Errorf("%#x applies, %#x was agreed on", uint64(got), uint64(plain))
	}
	if s := d.said(); len(s) != 0 {
		t.Errorf("the device heard: %q", s)
	}
}

// Rule 20★ (vhost-user, Migration): SET_FEATURES comes again while rings run,
// to switch LOG_ALL. No ring stops, moves or is disabled by it.
func TestLogAllSwitchesWhileRingsRun(t *testing.T) {
	d := entropy()
	f := plug(t, d, options{})
	r := f.ring(0)
	r.start()
	for i := range 3 {
		r.works()
		d.said()
		must(t, f.SetFeatures(plain|virtio.FeatureLogAll))
		r.works()
		must(t, f.SetFeatures(plain))
		for _, s := range d.said() {
			if strings.HasSuffix(s, "stopped") || strings.HasSuffix(s, "disabled") {
				t.Errorf("round %d: %s", i, s)
			}
		}
	}
	r.works()
	if got := r.stop(); got != r.avail {
		t.Errorf("the ring goes on at %d, %d chains were served", got, r.avail)
	}
}

// Rule 21★ (vhost-user, Ring states): SET_FEATURES without PROTOCOL_FEATURES
// enables all rings: there is no SET_VRING_ENABLE then.
func TestWithoutProtocolFeaturesRingsAreEnabled(t *testing.T) {
	f := connect(t, entropy())
	must(t, f.SetOwner())
	must(t, f.SetFeatures(virtio.FeatureVersion1))
	f.mem = newMemory(t, vhost.MemRegion{GPA: 0x10000, UVA: 0x10000 + userShift, Size: 4 * ringBytes})
	must(t, f.SetMemTable([]vhost.MemRegion{f.mem.MemRegion}, []int{f.mem.fd}))
	for i := range 2 {
		r := f.ring(i)
		r.configure()
		must(t, f.SetVringKick(i, r.kick))
		r.works()
	}
}

// Rule 22 (vhost-user, Ring states): SET_FEATURES with PROTOCOL_FEATURES leaves
// each ring as enabled as it was.
func TestProtocolFeaturesLeaveEnableStates(t *testing.T) {
	f := plug(t, entropy(), options{})
	on, off := f.ring(0), f.ring(1)
	on.start()
	off.configure()
	must(t, f.SetVringKick(1, off.kick))
	must(t, f.SetFeatures(plain))
	on.works()
	off.post()
	on.works()
	if got := off.stop(); got != 0 || off.used() != 0 {
		t.Errorf("a ring that was never enabled took %d chains", got)
	}
}

// Rule 23 (vhost-user, In-band notifications): INBAND_NOTIFICATIONS without
// REPLY_ACK and BACKEND_REQ cannot work: the connection ends.
func TestInbandAloneEndsTheConnection(t *testing.T) {
	for _, with := range []vhost.ProtocolFeatures{0, vhost.ProtocolReplyAck, vhost.ProtocolBackendReq} {
		f := connect(t, entropy())
		must(t, f.SetProtocolFeatures(vhost.ProtocolInband|with))
		if err := f.closed(); err == nil {
			t.Errorf("with %v the session ended as if the peer had left", with.Names())
		}
	}
}

// offers is what a device's back-end offers.
func offers(t *testing.T, d vhost.Device) (virtio.Features, vhost.ProtocolFeatures) {
	t.Helper()
	f := connect(t, d)
	features, err := f.GetFeatures()
	must(t, err)
	protocol, err := f.GetProtocolFeatures()
	must(t, err)
	return features, protocol
}

// Rule 24★ (QEMU): What QEMU agrees to and does not do is never offered:
// INBAND_NOTIFICATIONS and XEN_MMAP.
func TestUnkeptPromisesAreNotOffered(t *testing.T) {
	for _, d := range []vhost.Device{entropy(), network(), withConfig()} {
		_, protocol := offers(t, d)
		if bad := protocol & (vhost.ProtocolInband | vhost.ProtocolXenMMAP); bad != 0 {
			t.Errorf("offered: %v", bad.Names())
		}
	}
}

// Rule 25★ (QEMU): A network device does not offer RING_RESET, of which QEMU
// tells nobody, nor NOTIFICATION_DATA, which no eventfd carries. The bits of the
// control queue, which QEMU keeps to itself, need not come back.
func TestNetworkOffersWhatQEMUKeeps(t *testing.T) {
	const control virtio.Features = 0x1f<<16 | 1<<23
	d := network()
	d.spec.Features |= control | virtio.FeatureRingReset | virtio.FeatureNotification
	offered, _ := offers(t, d)
	if bad := offered & (virtio.FeatureRingReset | virtio.FeatureNotification); bad != 0 {
		t.Errorf("offered: %v", bad.Names(virtio.Net))
	}
	f := plug(t, d, options{})
	r := f.ring(1)
	r.start()
	r.works()
}

// Rule 26 (virtio 1.2, 6; QEMU): ACCESS_PLATFORM takes BACKEND_REQ and
// REPLY_ACK. Not offered: translations by the front-end, whatever the device
// says; the two protocol features are, without it.
func TestAccessPlatformIsNotOffered(t *testing.T) {
	d := entropy()
	d.spec.Features |= virtio.FeatureAccessPlatform
	features, protocol := offers(t, d)
	if features.Has(virtio.FeatureAccessPlatform) {
		t.Error("ACCESS_PLATFORM is offered")
	}
	if want := vhost.ProtocolBackendReq | vhost.ProtocolReplyAck; !protocol.Has(want) {
		t.Errorf("offered: %v, want %v among them", protocol.Names(), want.Names())
	}
}

// Rule 27★ (vhost-user, GET_QUEUE_NUM; QEMU): GET_QUEUE_NUM counts pairs for a
// network device, and rings for any other.
func TestQueueNumCountsPairsForNetwork(t *testing.T) {
	for want, d := range map[uint64]*device{2: network(), 3: {spec: vhost.Spec{ID: virtio.Vsock, Queues: 3}}} {
		f := plug(t, d, options{})
		if got, err := f.GetQueueNum(); err != nil || got != want {
			t.Errorf("%d of device type %d, want %d (%v)", got, d.spec.ID, want, err)
		}
	}
}

// Rule 28 (QEMU 7.2): SET_PROTOCOL_FEATURES comes once for each queue pair,
// with the same value: the second changes nothing, also while rings run.
func TestProtocolFeaturesTwiceIsOnce(t *testing.T) {
	d := network()
	f := plug(t, d, options{})
	protocol, err := f.GetProtocolFeatures()
	must(t, err)
	must(t, f.SetProtocolFeatures(protocol))
	r := f.ring(0)
	r.start()
	d.said()
	must(t, f.SetProtocolFeatures(protocol))
	r.works()
	f.acked(vhost.SetStatus, payloadOf(vhost.U64(15)))
	if s := d.said(); len(s) != 0 {
		t.Errorf("the device heard: %q", s)
	}
}
