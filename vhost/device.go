package vhost

import (
	"fmt"

	"github.com/vhostd/vhostd/virtio"
)

// Device is a kind of device that a Server serves.
type Device interface {
	Spec() Spec
	// Open makes the state behind one connection. It is called when a front-end
	// has connected, before features and memory are agreed on; its error ends
	// the connection.
	Open(*Session) (Handler, error)
}

// Spec is what a device is, the same for all its connections.
type Spec struct {
	ID       virtio.DeviceID
	Features virtio.Features      // the device type's bits; those of ring, transport and vhost are the library's
	Without  virtio.Features      // bits of the library that shall not be offered (features=-x)
	Queues   int                  // rings, 1 to 256; a network device has two a pair
	QueueMax uint16               // the largest ring, a power of two; 0: 32768
	Shared   func(queue int) bool // rings that other workers fill: never served, gated; nil: none
	// Inflight: a record of what is in flight is offered, so that a device that
	// was killed is followed by one that does again what was not done, in order,
	// and nothing twice that the driver has seen done.
	Inflight bool
}

// Handler serves the rings of one connection.
type Handler interface {
	// Serve works off what is in the queue. It is called in a section and with
	// the queue begun, so it must not block. An error breaks this ring only.
	Serve(*virtio.Queue) error
	// Close is called once, when all workers are out; memory is still mapped.
	Close() error
}

// Optional abilities of a Handler, found by assertion. Their methods are called
// by the session's own goroutine, one at a time.
type (
	// Negotiator hears what SET_FEATURES agreed on, before a ring sees it.
	Negotiator interface{ Negotiated(virtio.Features) }

	// RingWatcher hears of every change of a ring: a new view before workers
	// see it, nil after all of them have left.
	RingWatcher interface {
		RingChanged(queue int, v *virtio.View)
	}

	// NetHandler is a network device: NET_SET_MTU and SEND_RARP are offered.
	NetHandler interface {
		SetMTU(mtu uint16) error // may come before SET_FEATURES
		Announce(mac [6]byte)    // say on the host's side that mac lives here now
	}

	// Dropper serves rings that are started and not enabled, as network
	// devices must (take and drop); without it they are paused.
	Dropper interface{ Drop(*virtio.Queue) error }

	// Resetter hears of RESET_DEVICE, when the rings have stopped.
	Resetter interface{ Reset() }
)

// Configurer is an optional ability of a Device: it has a config space. What
// ReadConfig leaves of p reads as zero. WriteConfig must refuse fields that
// are read-only.
type Configurer interface {
	ReadConfig(p []byte, off int64) (int, error)
	WriteConfig(p []byte, off int64) (int, error)
}

// Namer is an optional ability of a Device: what its operator calls it.
type Namer interface{ Name() string }

// maxRings is how many rings the index in SET_VRING_KICK can name.
const maxRings = 256

// check says what is wrong with a Spec. It is the author's mistake, so it is
// found at the first connection.
func (s Spec) check() error {
	switch {
	case s.Queues < 1 || s.Queues > maxRings:
		return fmt.Errorf("vhost: Spec.Queues is %d: a device has 1 to %d rings", s.Queues, maxRings)
	case s.ID == virtio.Net && s.Queues%2 != 0:
		return fmt.Errorf("vhost: Spec.Queues is %d: a network device has two rings a pair", s.Queues)
	case s.QueueMax > virtio.MaxSize || s.QueueMax&(s.QueueMax-1) != 0:
		return fmt.Errorf("vhost: Spec.QueueMax is %d: it must be a power of two up to %d", s.QueueMax, virtio.MaxSize)
	}
	return nil
}

// queueMax is the largest ring a front-end may configure.
func (s Spec) queueMax() uint32 {
	if s.QueueMax == 0 {
		return virtio.MaxSize
	}
	return uint32(s.QueueMax)
}

// queueNum is the answer to GET_QUEUE_NUM: QEMU compares it with pairs for a
// network device, with rings for all others.
func (s Spec) queueNum() uint64 {
	if s.ID == virtio.Net {
		return uint64(s.Queues / 2)
	}
	return uint64(s.Queues)
}
