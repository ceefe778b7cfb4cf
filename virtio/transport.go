package virtio

import (
	"context"

	"github.com/vhostd/vhostd/memtable"
)

// Transport is how a driver reaches its device: a vhost-user connection or a PCI
// function. Drivers differ in nothing else. Control calls one method at a time;
// each ends with its context.
type Transport interface {
	// Features are what the device offers; Accept agrees on a part of them.
	Features() Features
	Accept(ctx context.Context, f Features) error

	// Queues is how many virtqueues there may be; QueueMax is the most
	// descriptors queue i may have.
	Queues() int
	QueueMax(i int) uint16

	// Connect gives the device a ring, which it serves when Start was called.
	// The Line is how the two ends call each other.
	Connect(ctx context.Context, i int, p Placement) (Line, error)
	// Enable lets the device serve ring i, or not (queue pairs in use).
	Enable(ctx context.Context, i int, on bool) error
	// Start says that the driver is ready (virtio 1.2, 3.1: DRIVER_OK).
	Start(ctx context.Context) error
	// Disconnect takes a ring back. When it returns without an error the
	// device does not touch the ring, and Position is where it would go on.
	Disconnect(ctx context.Context, i int) (Position, error)
	// Reset puts the device back to its first state, and takes all rings back.
	Reset(ctx context.Context) error

	// ReadConfig and WriteConfig are about the device's configuration space
	// (virtio 1.2, 2.5), off and len(p) being in bytes.
	ReadConfig(ctx context.Context, off int, p []byte) error
	WriteConfig(ctx context.Context, off int, p []byte) error

	// Events tells of what nobody asked for. It is closed with the transport.
	Events() <-chan TransportEvent
	Close() error
}

// Placement says where a ring is, in memory that both ends reach, and where it
// goes on.
type Placement struct {
	Size              uint16
	Desc, Avail, Used memtable.Buf // VA is ours, Addr the device's
	Position          Position
}

// Line is how the ends of a ring call each other.
type Line interface {
	Doorbell // the kick

	// Wait parks until the device has called since the last Wait, or the ring
	// is no more the device's. The error is the context's, or says why.
	Wait(ctx context.Context) error
}

// TransportEvent is something that happened to the device or on the way to it.
type TransportEvent struct {
	Kind    TransportEventKind
	Queue   int   // for QueueBroken
	Resumes bool  // for Back: the device knows what was in flight (vhost-user, GET_INFLIGHT_FD)
	Err     error // why, if that is known
}

// TransportEventKind says what happened.
type TransportEventKind uint8

// What a transport tells of.
const (
	// ConfigChanged: the configuration space may read differently now.
	ConfigChanged TransportEventKind = iota + 1
	// QueueBroken: the device serves the ring no more.
	QueueBroken
	// NeedsReset: the device serves nothing any more (virtio 1.2, 2.1.2).
	NeedsReset
	// Lost: there is no device. It touches no memory any more, and what was
	// lent to it stays lent until the driver reclaims it.
	Lost
	// Back: there is a device again, with the features that were agreed on.
	// Rings must be connected and the device started once more. If Resumes is
	// true they go on where they were, and what is lent stays lent.
	Back
)

// Pauser is a driver whose traffic is held up while its device may lose sight of
// memory for a moment.
type Pauser interface {
	// Pause stops publishing, and returns when all buffers that were lent for
	// the device to read are back. Buffers lent for it to write stay posted.
	// The error is ctx's when they do not come back in time. It must not call
	// the transport's methods, nor those of the source of its memory.
	Pause(ctx context.Context) error
	// Resume goes on, whether Pause succeeded or not.
	Resume()
}

// PausingTransport is a transport that has its driver pause: with vhost-user,
// a back-end without memory slots is given a whole new table when memory
// changes, maps everything anew, and may still be reading what it was lent.
type PausingTransport interface {
	Transport
	// SetPauser says who is to be paused; nil: nobody.
	SetPauser(p Pauser)
}
