package virtio

import (
	"fmt"
	"sync/atomic"

	"github.com/vhostd/vhostd/memtable"
)

// DriverMemory finds memory by the addresses that the device is told. An arena
// is one (package memfd).
type DriverMemory interface {
	// ByIOVA gives the table of now. r is the proof of who needs one.
	ByIOVA(r *memtable.Reader) *memtable.Table[memtable.IOVA]
}

// DriverOptions says what a driver's queue is made of.
type DriverOptions struct {
	Index    int      // the queue's number in its device
	Features Features // what was agreed on; INDIRECT_DESC, EVENT_IDX and IN_ORDER count

	// Placement is where the ring lies, see [PlaceRing]. Both its indices begin
	// at Position, which is 0 unless a device said otherwise.
	Placement Placement

	// Indirect is memory for indirect tables, aligned to 16 bytes: each
	// descriptor of the ring has an equal share of Cap. Without it, or without
	// INDIRECT_DESC, a chain takes a descriptor of the ring for each buffer.
	Indirect memtable.Buf

	// Memory finds the buffers that come back. It knows all that are lent.
	Memory DriverMemory
	// Reader is the worker's, inside whose section Reap is called. It is nil
	// where what is lent stays mapped anyhow, as an arena's memory does.
	Reader *memtable.Reader
}

// DriverQueue is the driver's side of one virtqueue. It belongs to one worker at
// a time; only [DriverQueue.Err] may be called from any goroutine.
//
// What a driver must know of a chain it keeps to itself: descriptors, links and
// lengths are never read back from memory that the device can write. Of the
// used ring each word is read once, and believed only after it was held against
// what is lent. A device that lies breaks its queue, see [UsedError].
//
// A fault in the ring's memory (a peer punched the file it was given) is a panic
// that package memtable's Guard knows. Nothing is lost by it: what a call that
// faulted was given still belongs to the caller, and [DriverQueue.Reclaim]
// gives back the rest.
type DriverQueue struct {
	DriverOptions
	ring   words
	bell   Doorbell
	broken atomic.Pointer[UsedError]

	event, inOrder bool
	mask           uint16
	tableMax       int // buffers that an indirect table has room for

	// Private to us, by descriptor: what is lent; and what the available ring
	// holds, so that it is written only where it changes and never read.
	loans []loan
	order []uint16
	// free is a queue of the descriptors that are free: [pop, push). Where the
	// device keeps the order, so does it, and chains are made of neighbours as
	// IN_ORDER demands (virtio 1.2, 2.7.5.2).
	free      []uint16
	pop, push uint16

	// Positions count chains from the ring's beginning and do not wrap: the
	// low 16 bits are the index on the ring.
	added     uint64 // made
	published uint64 // shown to the device
	kicked    uint64 // told
	reaped    uint64 // come back

	batch    uint64 // IN_ORDER: positions before it are known to be used
	batchLen uint32 // what was written to the last of them
	quiet    uint16 // avail.flags
	fresh    bool   // the device is new: it is kicked whatever it asks for
	elem     [BurstMax]usedElem
}

// loan is what we know of a descriptor. It holds no pointer, so that the garbage
// collector does not look at it: where memory lies here is looked up.
type loan struct {
	addr  memtable.IOVA // of a buffer
	token uint64
	pos   uint64 // of the chain; past added: the loan did not come about
	cap   uint32 // of a buffer, or all that is writable in a chain
	next  uint16 // in the chain of descriptors
	kind  loanKind
}

// loanKind says what a descriptor is used for.
type loanKind uint8

const (
	isFree   loanKind = iota
	isInner           // of a chain, behind its head
	isChain           // the head of what Add made
	isSource          // a buffer that the device reads
	isSink            // a buffer that the device writes
)

// room is how many bytes the device may write to what has its head here.
func (l *loan) room() uint32 {
	if l.kind == isSource {
		return 0
	}
	return l.cap
}

// none ends a chain of loans. No ring has that many descriptors.
const none = 0xffff

// NewDriverQueue lays an empty ring into its memory. The device must not use it
// yet. An error is about the options, and most often an [ErrRing].
func NewDriverQueue(o DriverOptions) (*DriverQueue, error) {
	ring, err := o.Placement.ring()
	switch {
	case err != nil:
		return nil, fmt.Errorf("driver queue %d: %w", o.Index, err)
	case o.Features.Has(FeaturePacked):
		return nil, fmt.Errorf("driver queue %d: packed rings are not served: do not accept RING_PACKED", o.Index)
	case o.Memory == nil:
		return nil, fmt.Errorf("driver queue %d: no memory to look buffers up in", o.Index)
	}
	n := o.Placement.Size
	q := &DriverQueue{
		DriverOptions: o, ring: wordsOf(ring), mask: n - 1,
		event: o.Features.Has(FeatureEventIdx), inOrder: o.Features.Has(FeatureInOrder),
		loans: make([]loan, n), order: make([]uint16, n), free: make([]uint16, n),
	}
	if o.Features.Has(FeatureIndirect) {
		q.tableMax = min(int(o.Indirect.Cap)/16/int(n), int(n))
		if q.tableMax > 0 && o.Indirect.Addr%16 != 0 {
			return nil, fmt.Errorf("driver queue %d: %w: indirect tables at 0x%x are not aligned to 16 bytes",
				o.Index, ErrRing, o.Indirect.Addr)
		}
	}
	q.Reset()
	return q, nil
}

// Reset begins the ring anew at Options.Placement.Position, mends it if it was
// broken and asks for no calls. The device must not use it, and nothing be lent.
func (q *DriverQueue) Reset() {
	start := uint16(q.Placement.Position)
	for i := range q.free {
		q.free[i], q.order[i] = uint16(i), none
		q.loans[i] = loan{}
	}
	q.pop, q.push = 0, q.mask+1
	q.added = uint64(start)
	q.published, q.kicked, q.reaped, q.batch = q.added, q.added, q.added, q.added
	q.quiet, q.fresh = 0, true
	if !q.event {
		q.quiet = availNoInterrupt
	}
	q.ring.clearUsed()
	q.ring.storeUsed(0, start)
	q.ring.storeUsedEvent(start - 1)
	q.ring.storeAvail(q.quiet, start)
	q.broken.Store(nil)
}

// Connect takes the device's doorbell, as [Transport] gave it. The device may be
// another than before: the next Kick rings it whatever it asks for.
func (q *DriverQueue) Connect(bell Doorbell) { q.bell, q.fresh = bell, true }

// Where gives the ring as the device is told of it, with the position at which a
// device goes on that forgot it: as many chains as came back (vhost-user: what
// QEMU sends for SET_VRING_BASE when a back-end returns). That is right if the
// device kept the order or knows what was in flight; else call Reclaim and Reset.
func (q *DriverQueue) Where() Placement {
	p := q.Placement
	p.Position = Position(uint16(q.reaped) + uint16(q.ready()))
	return p
}

// Room is how many descriptors are free: as many chains of one buffer can be
// added, or of several where there is memory for indirect tables.
func (q *DriverQueue) Room() int { return int(q.push - q.pop) }

// Lent is how many chains were added and have not come back.
func (q *DriverQueue) Lent() int { return int(q.added - q.reaped) }

// Err says why the queue is broken: nil or a [*UsedError].
func (q *DriverQueue) Err() error {
	if e := q.broken.Load(); e != nil {
		return e
	}
	return nil
}

// fail breaks the queue. pos is that of the used element.
func (q *DriverQueue) fail(pos uint64, field string, value uint32, err error) {
	q.broken.CompareAndSwap(nil, &UsedError{Queue: q.Index, At: uint16(pos), Field: field, Value: value, Err: err})
}
