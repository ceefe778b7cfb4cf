package probe

import (
	"fmt"
	"strings"
	"time"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// slow is an answer that a front-end feels: QEMU's main loop stands still while
// it waits, and with it the guest.
const slow = 500 * time.Millisecond

// judge finds what is unusual, most of it in what QEMU or DPDK make of it.
func judge(r *Report) {
	judgeProtocol(r)
	judgeFeatures(r)
	judgeDevice(r)
	judgeAmounts(r)
	judgeAnswers(r)
}

// judgeProtocol looks at protocol features that are missing, or do not go together.
func judgeProtocol(r *Report) {
	has := r.protocol.Has
	if !r.features.Has(virtio.FeatureProtocol) {
		r.find("protocol_features (bit 30) is not offered",
			"rings count as enabled from the start and nothing more can be agreed on; QEMU 7.2 does not start its network device on such a back-end, and says nothing")
		return
	}
	rules := []struct {
		is        bool
		what, why string
	}{
		{!has(vhost.ProtocolReplyAck), "REPLY_ACK is not offered",
			"errors are not told, and that memory may be taken away shows only in the answer to a later question"},
		{has(vhost.ProtocolInband) && !has(vhost.ProtocolReplyAck|vhost.ProtocolBackendReq), "INBAND_NOTIFICATIONS is offered without REPLY_ACK and BACKEND_REQ",
			"the specification wants all three; a front-end that agrees must hang up"},
		{has(vhost.ProtocolInband), "INBAND_NOTIFICATIONS is offered",
			"QEMU agrees to it and does not implement it: its rings are never kicked"},
		{has(vhost.ProtocolXenMMAP), "XEN_MMAP is offered",
			"QEMU 10 agrees to it and goes on to send regions of the old size"},
		{has(vhost.ProtocolPageFault | vhost.ProtocolMemSlots), "PAGEFAULT and CONFIGURE_MEM_SLOTS are offered together",
			"post-copy migration may not be used with memory slots"},
		{!has(vhost.ProtocolLogSHMFD) || !r.features.Has(virtio.FeatureLogAll), "LOG_SHMFD or log_all is not offered",
			"QEMU refuses to migrate the guest"},
		{has(vhost.ProtocolCryptoSession), "CRYPTO_SESSION is offered",
			"its messages have changed between versions of QEMU"},
		{r.features.Has(virtio.FeatureAccessPlatform) && !has(vhost.ProtocolReplyAck|vhost.ProtocolBackendReq), "access_platform is offered without BACKEND_REQ and REPLY_ACK",
			"QEMU refuses to start with an IOMMU: the back-end could not ask for translations"},
		{unnamed(r.protocol.Names()) != "", "protocol features without a name are offered: " + unnamed(r.protocol.Names()),
			"a front-end that agrees to what it does not know is wrong, and there are such"},
	}
	for _, rule := range rules {
		if rule.is {
			r.find(rule.what, rule.why)
		}
	}
}

// judgeFeatures looks at the virtio features.
func judgeFeatures(r *Report) {
	has := r.features.Has
	if !has(virtio.FeatureVersion1) {
		r.find("version_1 is not offered", "drivers have to be legacy ones, and rings are in the guest's byte order")
	}
	if has(virtio.FeatureRingReset) {
		r.find("ring_reset is offered", "QEMU (7.2 and 10.0) passes it on and tells the back-end of no reset: a driver that resizes a ring has its old memory written to")
	}
	if has(virtio.FeatureNotification) {
		r.find("notification_data is offered", "kicks through an eventfd carry no data")
	}
	if bits := unnamed(r.features.Names(r.id)); bits != "" && r.id != unknown {
		r.find("features without a name are offered: "+bits, "they are reserved, or newer than this program")
	}
	if r.again != uint64(r.features) {
		r.find(fmt.Sprintf("GET_FEATURES says %#x at first and %#x after SET_FEATURES", uint64(r.features), r.again),
			"what is offered does not depend on what was agreed on; front-ends that ask again see another device")
	}
}

// unnamed picks the bits that have no name.
func unnamed(names []string) string {
	var bits []string
	for _, n := range names {
		if strings.HasPrefix(n, "bit ") {
			bits = append(bits, n)
		}
	}
	return strings.Join(bits, ", ")
}

// judgeDevice looks at what matters for devices of one type.
func judgeDevice(r *Report) {
	p, f := r.protocol.Has, r.features
	switch r.id {
	case virtio.Net:
		const control = 1<<17 | 1<<18 | 1<<19 | 1<<20 | 1<<23
		if c := f & control; c != 0 {
			r.find("features of the control queue are offered: "+strings.Join(c.Names(virtio.Net), ", "),
				"that queue is the front-end's: QEMU and DPDK serve it themselves, and decide about these bits themselves")
		}
		if f.Has(1<<22) && !p(vhost.ProtocolMQ) {
			r.find("mq is offered, and MQ among the protocol features is not", "nobody can ask how many queues there are: front-ends use one pair")
		}
		if f.Has(1<<3) && !p(vhost.ProtocolMTU) {
			r.find("mtu is offered, and MTU among the protocol features is not", "the front-end cannot tell the back-end its MTU")
		}
		if p(vhost.ProtocolConfig) {
			r.find("CONFIG is offered by a network device", "QEMU keeps a network device's configuration itself: it warns, and does not agree to it")
		}
	case virtio.Block:
		if !p(vhost.ProtocolInflightSHMFD) {
			r.find("INFLIGHT_SHMFD is not offered by a block device", "after the back-end has crashed, requests that it had done may be done again")
		}
		fallthrough
	case virtio.Vsock, virtio.FS:
		if !p(vhost.ProtocolConfig) && r.id != virtio.FS {
			r.find("CONFIG is not offered", "the configuration is the back-end's to tell: QEMU refuses to start")
		}
	}
}
