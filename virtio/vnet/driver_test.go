package vnet_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// Whatever is agreed on, frames come back as they were sent, in order.
func TestFramesComeBackWithAnyFeatures(t *testing.T) {
	ring := []virtio.Features{virtio.FeatureIndirect, virtio.FeatureEventIdx, virtio.FeatureInOrder, vnet.FeatureMrgRxbuf}
	for set := range 1 << len(ring) {
		f := vnet.FeatureMQ
		for i, bit := range ring {
			if set>>i&1 != 0 {
				f |= bit
			}
		}
		t.Run(fmt.Sprint(f.Names(virtio.Net)), func(t *testing.T) {
			r := newRig(t, rigOptions{driver: func(c *vnet.DriverConfig) { c.Features, c.Need, c.Size = f, f, 64 }})
			if got := r.Features(); got != f|virtio.FeatureVersion1 {
				t.Fatalf("agreed on %v, want %v", got.Names(virtio.Net), f.Names(virtio.Net))
			}
			w := r.worker(0, 1514)
			w.turn(t.Context(), 3000, 40)
			s := r.Stats()
			if s.Tx[0].Frames != 3000 || s.Rx[0].Frames != 3000 || s.Tx[0].Bytes != 3000*1514 || s.Rx[0].Bytes != 3000*1514 {
				t.Errorf("3000 frames of 1514 bytes are counted as %+v", s)
			}
		})
	}
}

// Each pair is a worker's own.
func TestPairsCarryTheirOwnFrames(t *testing.T) {
	const pairs = 4
	r := newRig(t, rigOptions{pairs: pairs})
	var all sync.WaitGroup
	for i := range pairs {
		w := r.worker(i, 200+i)
		all.Go(func() { w.turn(t.Context(), 5000, 100) })
	}
	all.Wait()
	for i, q := range r.Stats().Rx {
		if q.Frames != 5000 {
			t.Errorf("pair %d received %d frames of 5000", i, q.Frames)
		}
	}
}

// What the device says of itself is what the driver says of it.
func TestTheDriverKnowsItsDevice(t *testing.T) {
	r := newRig(t, rigOptions{})
	up, speed := r.Link()
	if r.MAC() != echoMAC || r.MTU() != 9000 || !up || speed != 25000 {
		t.Errorf("address %x, MTU %d, link %v at %d", r.MAC(), r.MTU(), up, speed)
	}
	s := <-r.dev.opened
	r.dev.edit(t, s, func(c []byte) { c[6] = 0 })
	r.change(vnet.LinkChanged)
	if up, _ := r.Link(); up {
		t.Error("the link is up still")
	}
}

// A back-end that tells no configuration leaves the driver with what holds for all.
func TestADeviceWithoutConfigurationWorks(t *testing.T) {
	r := newRig(t, rigOptions{protocol: vhost.ProtocolMQ | vhost.ProtocolReplyAck})
	if up, speed := r.Link(); !up || speed != vnet.SpeedUnknown || r.MTU() != 1500 {
		t.Errorf("link %v at %d, MTU %d", up, speed, r.MTU())
	}
	if mac := r.MAC(); mac[0]&3 != 2 {
		t.Errorf("address %x is not one of its own", mac)
	}
	r.worker(0, 64).turn(t.Context(), 100, 32)
}
