package vblk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// queueState is how a queue stands with its device.
type queueState uint8

const (
	isLost    queueState = iota // no device: what is lent stays so until there is one
	isRunning                   // the device serves it
	isBroken                    // the device did what it must not, and may still do more
	isDead                      // broken, and taken back
	isClosed
)

// Queue is one request queue. A direct one (Options.Direct) belongs to one worker
// at a time, who calls Submit, Complete and Wait.
//
// The lock is there for control, which takes the queue away when its device is
// gone; a worker takes it once a burst.
type Queue struct {
	disk   *Disk
	index  int
	direct bool
	limits Limits

	mu     sync.Mutex
	dq     *virtio.DriverQueue
	line   virtio.Line // nil unless isRunning
	state  queueState
	paused bool
	change chan struct{}         // closed when something changes; nil: nobody waits
	dead   atomic.Pointer[error] // why it takes no requests, for who does not hold mu
	seen   bool                  // Wait armed the queue
	shown  bool                  // a device was given the ring since it began anew

	cells  memtable.Buf // a header and a status for each slot
	slots  []slot
	free   []uint16       // slots
	back   []memtable.Buf // scratch of Reap: a burst, so that a fault loses none
	status []Status       // of what is in back
	chain  []memtable.Buf // scratch of Add
	failed []Done         // ended or reaped by control, for Complete
	stats  QueueStats
}

// slot is a request that is in flight. All that is needed to send it again is
// here, in memory of ours: the device can write to its cell.
type slot struct {
	Request
	bufs  []memtable.Buf // of Request, kept for the next one
	bytes uint32
	sent  uint8
	call  *call // whose it is; nil: Complete tells of it
}

// Limits are what one request can carry.
type Limits struct {
	Segments int    // buffers
	Size     uint32 // bytes of each
	Bytes    uint32 // in all
}

const (
	// maxBytes is where requests are split if nothing else asks for it. A chain
	// has no more than 4 GiB (virtio 1.2, 2.7.5).
	maxBytes = 1 << 30
	// maxSends is how often a request is sent to devices that then were gone.
	maxSends = 8
	// cellBytes is a cache line: header and status of one request.
	cellBytes = 64
	statusAt  = HeaderLen
)

// limitsOf gives the limits of a ring of size descriptors.
func limitsOf(c Config, o Options, f virtio.Features) Limits {
	l := Limits{Segments: min(int(c.SegMax), o.Segments, int(o.Size)-2), Size: maxBytes, Bytes: maxBytes}
	if !f.Has(virtio.FeatureIndirect) {
		// Half the ring, so that there is never only one request in flight.
		l.Segments = min(l.Segments, max(int(o.Size)/2-2, 1))
	}
	if c.SizeMax != 0 {
		l.Size = min(l.Size, c.SizeMax)
	}
	return l
}

// newQueue lays queue i into memory.
func (d *Disk) newQueue(ctx context.Context, i int, c Config) (*Queue, error) {
	n := min(d.o.Size, d.o.Transport.QueueMax(i))
	for n&(n-1) != 0 { // the largest power of two below
		n &= n - 1
	}
	if n < 4 {
		return nil, fmt.Errorf("block device: queue %d has %d descriptors at most: too few for a request", i, n)
	}
	o := d.o
	o.Size = n
	q := &Queue{
		disk: d, index: i, direct: i >= d.o.Queues-d.o.Direct, limits: limitsOf(c, o, d.features),
		slots: make([]slot, n), back: make([]memtable.Buf, min(n, virtio.BurstMax)), status: make([]Status, min(n, virtio.BurstMax)), failed: make([]Done, 0, n),
	}
	if uint64(q.limits.Segments)*uint64(q.limits.Size) < uint64(c.BlockSize) {
		return nil, &ConfigError{"size_max", uint64(c.SizeMax), "lets no request carry a block in so few segments"}
	}
	for s := range q.slots {
		q.slots[s].bufs = make([]memtable.Buf, 0, q.limits.Segments)
		q.free = append(q.free, uint16(s))
	}
	q.chain = make([]memtable.Buf, 0, q.limits.Segments+2)
	ring, err := d.alloc(ctx, virtio.RingBytes(n), 64)
	if err != nil {
		return nil, err
	}
	if q.cells, err = d.alloc(ctx, uint64(n)*cellBytes, cellBytes); err != nil {
		return nil, err
	}
	opt := virtio.DriverOptions{Index: i, Features: d.features, Memory: d.o.Memory}
	if opt.Placement, err = virtio.PlaceRing(ring, n); err != nil {
		return nil, err
	}
	if d.features.Has(virtio.FeatureIndirect) {
		tables := uint64(n) * uint64(q.limits.Segments+2) * 16
		if opt.Indirect, err = d.alloc(ctx, tables, 16); err != nil {
			return nil, err
		}
		opt.Indirect.Cap = uint32(min(tables, math.MaxUint32))
	}
	q.dq, err = virtio.NewDriverQueue(opt)
	return q, err
}

// Limits are what one request of [Queue.Submit] can carry.
func (q *Queue) Limits() Limits { return q.limits }

// Err says why the queue takes no requests any more: nil, [ErrClosed] or a
// [*QueueError]. That its device is lost is no reason: there may be another.
func (q *Queue) Err() error {
	if err := q.dead.Load(); err != nil {
		return *err
	}
	return nil
}

// changed gives a channel that is closed at the next change: room, a state. mu
// is held.
func (q *Queue) changed() <-chan struct{} {
	if q.change == nil {
		q.change = make(chan struct{})
	}
	return q.change
}

// tell wakes who waits for a change. mu is held.
func (q *Queue) tell() {
	if q.change != nil {
		close(q.change)
		q.change = nil
	}
}

// where gives the ring as the device is told of it.
func (q *Queue) where() (p virtio.Placement, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	err = memtable.Guard(func() error { p = q.dq.Where(); return nil })
	return p, err
}

// show notes that a device is about to see the ring.
func (q *Queue) show() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shown = true
}

// guard does what touches memory that is shared with the device, which can have
// made it vanish: that breaks the queue. mu is held.
func (q *Queue) guard(do func() error) error {
	err := memtable.Guard(do)
	if fault, ok := errors.AsType[*memtable.FaultError](err); ok {
		return q.lied(fault)
	}
	return err
}
