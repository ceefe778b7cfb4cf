package vhost

import (
	"fmt"

	"github.com/vhostd/vhostd/virtio"
)

const (
	// libraryFeatures work for every device: they are of rings, transport and
	// vhost.
	libraryFeatures = virtio.FeatureIndirect | virtio.FeatureEventIdx | virtio.FeatureInOrder |
		virtio.FeatureVersion1 | virtio.FeatureLogAll | virtio.FeatureProtocol

	// neverOffered are bits that the queues do not implement, or that cannot
	// travel: NOTIFICATION_DATA not over an eventfd, and QEMU agrees to
	// RING_RESET for a network device and then resets no ring.
	neverOffered = virtio.FeatureNotifyOnEmpty | virtio.FeatureAccessPlatform | virtio.FeaturePacked |
		virtio.FeatureNotification | virtio.FeatureRingReset

	// netMTU is VIRTIO_NET_F_MTU (virtio 1.2, 5.1.3).
	netMTU virtio.Features = 1 << 3
)

// offer is what GET_FEATURES answers.
func (s Spec) offer() virtio.Features {
	return (s.Features | libraryFeatures) &^ (s.Without | neverOffered)
}

// offerProtocol is what GET_PROTOCOL_FEATURES answers.
func (s *Session) offerProtocol() ProtocolFeatures {
	p := ProtocolMQ | ProtocolLogSHMFD | ProtocolReplyAck | ProtocolBackendReq |
		ProtocolMemSlots | ProtocolStatus | ProtocolResetDevice
	if s.can.net != nil {
		p |= ProtocolRARP
		if s.offered.Has(netMTU) {
			p |= ProtocolMTU
		}
	}
	if s.can.config != nil {
		p |= ProtocolConfig
	}
	if s.spec.Inflight {
		p |= ProtocolInflightSHMFD
	}
	return p
}

func (s *Session) getFeatures(*message) (payload, error) { return U64(s.offered), nil }

// setFeatures agrees on features. While a ring runs only LOG_ALL may change,
// and no ring is stopped, disabled or moved by it.
func (s *Session) setFeatures(m *message) (payload, error) {
	u, err := decode[U64](m)
	if err != nil {
		return nil, err
	}
	f, old := virtio.Features(u), s.Features()
	if extra := f &^ s.offered; extra != 0 {
		return nil, fmt.Errorf("features that were not offered: %v", extra.Names(s.spec.ID))
	}
	if (f^old)&^virtio.FeatureLogAll != 0 {
		if s.running() {
			return nil, fmt.Errorf("features changed while a ring runs: only log_all may, the rings must be stopped first (GET_VRING_BASE)")
		}
		if s.can.negotiated != nil {
			s.unlocked(func() { s.can.negotiated.Negotiated(f) })
		}
	}
	s.features.Store(uint64(f))
	// vhost-user, "Ring states": without the bit there is no SET_VRING_ENABLE.
	if !f.Has(virtio.FeatureProtocol) {
		for _, r := range s.rings {
			r.enabled = true
		}
	}
	return nil, s.apply()
}

func (s *Session) getProtocolFeatures(*message) (payload, error) {
	return U64(s.offeredProtocol), nil
}

func (s *Session) setProtocolFeatures(m *message) (payload, error) {
	u, err := decode[U64](m)
	if err != nil {
		return nil, err
	}
	p := ProtocolFeatures(u)
	if p.Has(ProtocolInband) && !p.Has(ProtocolReplyAck|ProtocolBackendReq) {
		return nil, fatal(fmt.Errorf("in-band notifications without REPLY_ACK and BACKEND_REQ"))
	}
	if extra := p &^ s.offeredProtocol; extra != 0 {
		return nil, fmt.Errorf("protocol features that were not offered: %v", extra.Names())
	}
	s.protocol = p
	return nil, nil
}

func (s *Session) getQueueNum(*message) (payload, error) { return U64(s.spec.queueNum()), nil }

func (s *Session) getStatus(*message) (payload, error) { return U64(s.status), nil }

// setStatus keeps the device status for GET_STATUS. Nothing hangs on it: QEMU
// 7.2 writes 0 before it asks for the last bases, and never DRIVER_OK for some
// devices.
func (s *Session) setStatus(m *message) (payload, error) {
	u, err := decode[U64](m)
	if err != nil {
		return nil, err
	}
	if u > 0xff {
		return nil, fmt.Errorf("device status %#x: it has 8 bits", uint64(u))
	}
	s.status = uint8(u)
	return nil, nil
}

// The smallest and the largest MTU (virtio 1.2, 5.1.4.1).
const (
	mtuMin = 68
	mtuMax = 65535
)

func (s *Session) netSetMTU(m *message) (payload, error) {
	u, err := decode[U64](m)
	if err != nil {
		return nil, err
	}
	if u < mtuMin || u > mtuMax {
		return nil, fmt.Errorf("MTU %d: it must be %d to %d", u, mtuMin, mtuMax)
	}
	s.unlocked(func() { err = s.can.net.SetMTU(uint16(u)) })
	if err == nil {
		s.mtu = uint16(u)
	}
	return nil, err
}

// sendRARP has the address in the first six bytes, in memory order.
func (s *Session) sendRARP(m *message) (payload, error) {
	mac := [6]byte(m.Payload)
	s.unlocked(func() { s.can.net.Announce(mac) })
	return nil, nil
}
