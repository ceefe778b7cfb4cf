package vnet

import (
	"context"
	"errors"
	"fmt"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Buffers is where frames' buffers come from and go to, as a memfd.Cache is. It
// is one queue's, which calls it with its gate closed: one goroutine at a time,
// the worker or, when a device is lost, the driver. A worker that wants buffers
// of it goes through Tx.Get, Tx.Put and Rx.Release, or lets it stand two.
type Buffers interface {
	// Get lends as many buffers as dst has room for, or as there are, and tells
	// how many. It does not wait.
	Get(dst []memtable.Buf) int
	// Put takes buffers back.
	Put(src []memtable.Buf)
}

// Allocator has memory for rings, shared with the device. A memfd.Heap is one.
type Allocator interface {
	AllocZero(ctx context.Context, n, align uint64) (memtable.Buf, error)
	Free(b memtable.Buf) error
}

// DriverConfig says what a driver shall be. Transport, Rings, Memory and Buffers
// are needed.
type DriverConfig struct {
	Transport virtio.Transport    // the caller's: closed after the driver
	Rings     Allocator           // memory for rings and headers
	Memory    virtio.DriverMemory // finds the buffers that come back
	// Buffers gives the buffers of ring i: 2k receives and 2k+1 sends. Where a
	// pool can shrink, those of receiving rings should be resident: they come
	// back only with traffic.
	Buffers func(ring int) Buffers

	Pairs int    // queue pairs there are; 0: 1
	Size  uint16 // descriptors of each ring, a power of two; 0: 256

	// Features are what the driver would like; 0: DefaultFeatures. What the
	// device does not offer is left out.
	Features virtio.Features
	// Need are those of them without which Open fails.
	Need virtio.Features

	MTU uint16  // largest payload of a frame sent, bytes; 0: the device's, or 1500
	MAC [6]byte // zero: the device's, or one by chance

	// OnChange hears of all that happens to the device, in order, on the
	// driver's own goroutine: it must not wait for the driver. nil: nobody.
	OnChange func(Change)
}

// DefaultFeatures are good for most: all that makes rings fast and that lets a
// driver leave work to its device, and nothing that lets the device leave work
// to the driver, such as checksums and large segments received.
const DefaultFeatures = virtio.FeatureVersion1 | virtio.FeatureIndirect | virtio.FeatureEventIdx | virtio.FeatureInOrder |
	FeatureMrgRxbuf | FeatureMQ | FeatureMTU | FeatureMAC | FeatureStatus | FeatureSpeedDuplex |
	FeatureCSUM | FeatureHostTSO4 | FeatureHostTSO6 | FeatureHostECN | FeatureHostUSO

// guestGSO are the features with which a device sends frames longer than the MTU.
const guestGSO = FeatureGuestTSO4 | FeatureGuestTSO6 | FeatureGuestUSO4 | FeatureGuestUSO6

// known are the features that this driver knows what to do with.
const known = DefaultFeatures | FeatureGuestCSUM | guestGSO | FeatureGuestECN

// needs says which feature is void without which others (virtio 1.2, 5.1.3.1):
// one of them is enough.
var needs = []struct{ feature, oneOf virtio.Features }{
	{guestGSO, FeatureGuestCSUM}, {FeatureGuestECN, FeatureGuestTSO4 | FeatureGuestTSO6},
	{FeatureHostTSO4 | FeatureHostTSO6 | FeatureHostUSO, FeatureCSUM}, {FeatureHostECN, FeatureHostTSO4 | FeatureHostTSO6},
}

// choose gives what is to be agreed on of an offer.
func (c DriverConfig) choose(offer virtio.Features) (virtio.Features, error) {
	f := offer & c.Features & known
	for _, n := range needs {
		if f&n.oneOf == 0 {
			f &^= n.feature
		}
	}
	if lack := (c.Need | virtio.FeatureVersion1) &^ f; lack != 0 {
		return 0, fmt.Errorf("the device does not offer %v, or what that depends on: "+
			"use another device, or do not ask for it (legacy devices are not driven)", lack.Names(virtio.Net))
	}
	if c.Pairs > 1 && !f.Has(FeatureMQ) {
		return 0, fmt.Errorf("%d queue pairs, but the device does not offer MQ: give it several queues, or use one pair", c.Pairs)
	}
	return f, nil
}

func (c DriverConfig) withDefaults() (DriverConfig, error) {
	switch {
	case c.Transport == nil || c.Rings == nil || c.Memory == nil || c.Buffers == nil:
		return c, errors.New("config: Transport, Rings, Memory and Buffers are all needed")
	case c.Pairs < 0 || c.Size&(c.Size-1) != 0:
		return c, fmt.Errorf("%d queue pairs of %d descriptors: pairs are 1 or more, descriptors a power of two", c.Pairs, c.Size)
	case c.MAC[0]&1 != 0:
		return c, fmt.Errorf("address %x is a group's: a driver needs one of its own", c.MAC)
	}
	if c.Pairs == 0 {
		c.Pairs = 1
	}
	if c.Size == 0 {
		c.Size = 256
	}
	if c.Features == 0 {
		c.Features = DefaultFeatures
	}
	c.Features |= c.Need | virtio.FeatureVersion1
	if n := c.Transport.Queues() / 2; c.Pairs > n {
		return c, fmt.Errorf("%d queue pairs, but the device has %d: give it more queues, or use fewer", c.Pairs, n)
	}
	for i := range 2 * c.Pairs {
		if m := c.Transport.QueueMax(i); c.Size > m {
			return c, fmt.Errorf("rings of %d descriptors, but ring %d has %d at most", c.Size, i, m)
		}
	}
	return c, nil
}

// Sizes of buffers to receive in (virtio 1.2, 5.1.6.3.1).
const (
	bufferGSO = 65562 // with segments that the device does not cut
	bufferMin = 1526  // one frame of 1500 bytes
)

// bufferSize is what a buffer for receiving must have room for.
func bufferSize(f virtio.Features, mtu uint16) uint32 {
	switch {
	case f.Has(FeatureMrgRxbuf):
		return Headroom + minFrame
	case f&guestGSO != 0:
		return bufferGSO
	}
	return max(bufferMin, Headroom+minFrame+uint32(mtu))
}
