package vhost

import (
	"context"
	"errors"
	"fmt"

	"github.com/vhostd/vhostd/virtio"
)

// Device status (virtio 1.2, 2.1), as vhost-user drives it: the first two steps
// of a driver have no meaning between two processes.
const (
	statusFeaturesOK = 0x08
	statusReady      = 0x0f
)

const (
	// implementedProtocol is what this front-end does when it is agreed on.
	implementedProtocol = ProtocolMQ | ProtocolReplyAck | ProtocolMTU | ProtocolBackendReq | ProtocolConfig |
		ProtocolInflightSHMFD | ProtocolResetDevice | ProtocolMemSlots | ProtocolStatus

	// transportFeatures are bits that a driver behind this transport is never
	// offered: those of vhost-user itself, those that need messages which do not
	// exist or which this front-end does not send (IOTLB, dirty log), and
	// NOTIFICATION_DATA, which an eventfd cannot carry. RING_RESET has no
	// message: GET_VRING_BASE does its work.
	transportFeatures = virtio.FeatureProtocol | virtio.FeatureLogAll | virtio.FeatureAccessPlatform |
		virtio.FeatureNotification | virtio.FeatureRingReset | 1<<37 | 1<<39 | 1<<41

	// controlFeatures of a network device need the control queue, which never
	// is the back-end's (virtio 1.2, 5.1.6.5): what it would do there is done
	// by messages, and what it would have a driver do needs none. MQ stays: the
	// back-end wants to know, and pairs are chosen by Enable.
	controlFeatures virtio.Features = 1<<2 | 1<<17 | 1<<18 | 1<<19 | 1<<20 | 1<<21 | 1<<23 |
		1<<52 | 1<<53 | 1<<57 | 1<<60
)

// forDriver is what of the back-end's offer a driver is told of.
func (c FrontendConfig) forDriver(offer virtio.Features) virtio.Features {
	offer &= c.Features &^ transportFeatures
	if c.Device == virtio.Net {
		offer &^= controlFeatures
	}
	return offer
}

// forProtocol is what is agreed on of the back-end's protocol features.
func (c FrontendConfig) forProtocol(offer ProtocolFeatures) ProtocolFeatures {
	p := offer & c.Protocol & implementedProtocol
	if c.Device == virtio.Net {
		// Network back-ends offer the record and keep none.
		p &^= ProtocolInflightSHMFD
	} else {
		p &^= ProtocolMTU
	}
	if !p.Has(ProtocolConfig) {
		p &^= ProtocolBackendReq // its only use here is to hear of changes
	}
	return p
}

// Features implements [virtio.Transport]. Bits that a driver implements by
// itself, such as those of the control queue, are not among them: it adds them
// to what it offers on, and does not Accept them here.
func (f *Frontend) Features() virtio.Features { return f.offered }

// Queues implements [virtio.Transport]: rings, not pairs.
func (f *Frontend) Queues() int { return f.queues }

// QueueMax implements [virtio.Transport].
func (f *Frontend) QueueMax(int) uint16 { return f.cfg.QueueMax }

// Accept implements [virtio.Transport]: SET_FEATURES, the device status, and
// the memory there is. Only then can rings be connected.
func (f *Frontend) Accept(ctx context.Context, want virtio.Features) error {
	if extra := want &^ f.offered; extra != 0 {
		return fmt.Errorf("features that the back-end does not offer: %v", extra.Names(f.cfg.Device))
	}
	return f.askAny(ctx, func(l *peerLink) error {
		for _, r := range f.rings {
			if r.running {
				return fmt.Errorf("features are accepted before rings are started: Reset first")
			}
		}
		if err := f.settle(l, want); err != nil {
			return err
		}
		if !f.agreed || f.news.isDeaf() { // who accepts now is another driver than the one to tell
			f.news.renew()
			f.forgetRecord()
			f.resuming = false
		}
		f.accepted, f.agreed = want, true
		return nil
	}, nil)
}

// settle agrees on features and shares the memory, at first and at every new
// connection.
func (f *Frontend) settle(l *peerLink, want virtio.Features) error {
	// vhost-user, "Ring states": the bit goes back, or all rings are enabled.
	if err := l.conn.SetFeatures(want | l.offered&virtio.FeatureProtocol); err != nil {
		return err
	}
	if err := f.status(l, statusFeaturesOK); err != nil {
		return err
	}
	if f.mtu != 0 && l.protocol.Has(ProtocolMTU) {
		if err := l.conn.NetSetMTU(f.mtu); err != nil {
			return err
		}
	}
	return f.share.begin(l)
}

// status tells the device status, and that the device keeps it.
func (f *Frontend) status(l *peerLink, status uint8) error {
	if !l.protocol.Has(ProtocolStatus) {
		return nil
	}
	if err := l.conn.SetStatus(status); err != nil {
		return err
	}
	if status&statusFeaturesOK == 0 {
		return nil
	}
	got, err := l.conn.GetStatus()
	if err == nil && got&statusFeaturesOK == 0 {
		err = errors.New("the device does not accept these features (virtio 1.2, 3.1.1: FEATURES_OK is not kept)")
	}
	return err
}
