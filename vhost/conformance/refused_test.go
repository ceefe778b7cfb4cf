package conformance

import (
	"testing"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// Rule 85 (vhost-user, GET_VRING_BASE_SKIP_DRAIN): stopping without completing what is in flight is not offered, and refused.
func TestStopWithoutDrainIsRefused(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.start()
	if f.call(vhost.GetProtocolFeatures, 0, nil).u64(t)>>20&0b1001 != 0 {
		t.Error("one of its protocol features is offered")
	}
	f.nacked(45, state(0, 0))
	r.works()
}

// Rule 97 (vhost-user, "Post-copy support"): post-copy is not offered; each of its messages is refused in the way that its sender understands.
func TestPostCopyIsRefused(t *testing.T) {
	f := plug(t, entropy(), options{})
	p, err := f.GetProtocolFeatures()
	must(t, err)
	if p.Has(vhost.ProtocolPageFault) {
		t.Error("PAGEFAULT is offered")
	}
	for _, request := range []vhost.Request{vhost.PostcopyListen, vhost.PostcopyEnd} {
		f.nacked(request, nil)
	}
	f.send(vhost.PostcopyAdvise, 0, nil) // its reply is a file: there is no way to say no
	if f.closed() == nil {
		t.Error("the session does not say why it ended")
	}
}

// Rule 98 (vhost-user, SET_DEVICE_STATE_FD): transfer of the device's state is not offered; it is answered with an error and no file, the file that came is closed, and the check fails.
func TestDeviceStateIsRefused(t *testing.T) {
	f := plug(t, entropy(), options{})
	p, err := f.GetProtocolFeatures()
	must(t, err)
	if p.Has(vhost.ProtocolDeviceState) {
		t.Error("DEVICE_STATE is offered")
	}
	files := openFiles()
	pipe := newEventfd(t)
	for _, direction := range []uint32{0, 1} {
		m := f.call(vhost.SetDeviceStateFD, 0, state(direction, 0), pipe)
		if code := m.u64(t); code&0xff == 0 || code&0x100 == 0 || len(m.fds) != 0 {
			t.Errorf("direction %d: code %#x with %d files", direction, code, len(m.fds))
		}
	}
	if f.call(vhost.CheckDeviceState, 0, nil).u64(t) == 0 {
		t.Error("CHECK_DEVICE_STATE succeeds")
	}
	eventually(t, "the files are closed", func() bool { return openFiles() == files+1 }) // ours
}

// iotlb is an IOTLB message of QEMU's 32 bytes.
func iotlb(kind byte) []byte {
	b := make([]byte, 32)
	b[17], b[24], b[25] = 0x40, 3, kind
	return b
}

// Rule 112★ (vhost-user, IOTLB_MSG): a virtual IOMMU is not offered: an update or invalidation is refused by the number that it always has for an answer, asked for or not.
func TestTranslationMessagesAreRefusedByANumber(t *testing.T) {
	f := plug(t, network(), options{})
	for kind := range byte(6) {
		for _, flags := range []uint32{0, needReply} {
			if f.call(vhost.IOTLBMsg, flags, iotlb(kind)).u64(t) == 0 {
				t.Errorf("type %d succeeded", kind)
			}
		}
	}
	f.alive()
}

// Rule 114★ (virtio 1.2, 6): addresses are never taken for IOVAs: ACCESS_PLATFORM is not offered, and refused.
func TestAddressesBehindAnIOMMUAreNotOffered(t *testing.T) {
	dev := network()
	dev.spec.Features |= virtio.FeatureAccessPlatform
	f := plug(t, dev, options{})
	offered, err := f.GetFeatures()
	must(t, err)
	if offered.Has(virtio.FeatureAccessPlatform) {
		t.Error("ACCESS_PLATFORM is offered")
	}
	f.refused(f.SetFeatures(f.features | virtio.FeatureAccessPlatform))
	r := f.ring(0)
	r.start()
	r.works()
}
