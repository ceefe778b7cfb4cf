package virtio

import (
	"sync/atomic"

	"github.com/vhostd/vhostd/memtable"
)

// QueueOptions says what kind of queue it is.
type QueueOptions struct {
	Index  int
	Shared bool // several workers fill it: Begin takes a gate
}

// Queue is the device's side of one virtqueue. It outlives the ring it serves:
// control configures one ring after the other.
type Queue struct {
	index  int
	shared bool
	view   memtable.Cell[View]
	broken atomic.Pointer[RingError]
	gate   atomic.Uint32
	shown  atomic.Uint32 // next<<16 | used, for control

	_ [64]byte // what follows is written by the worker in every burst

	reader *memtable.Reader
	cur    *View // the view of this section; ring and the flags below are its
	ring   words
	event  bool // EVENT_IDX

	next      uint16 // free-running index of the next chain to take
	taken     uint16 // chains taken and not put
	used      uint16 // free-running index of the next used element
	published uint16 // used.idx as the driver sees it
	called    uint16 // used.idx when a call was last decided on
	quiet     uint16 // used.flags as last written
	badRun    uint32 // bad chains in a row
	stats     counters
	own       *iteration // of Next and Chains, made at first use

	// Of a queue with a record of what is in flight, see resume.go.
	counter     uint64   // of the next chain
	unpublished []uint16 // heads that were put and not published
	again       []uint16 // heads that were in flight when the device before us died
	redone      int      // of again: taken
	redoing     bool     // what is taken now is of again
}

// NewQueue makes a stopped queue.
func NewQueue(o QueueOptions) *Queue {
	return &Queue{index: o.Index, shared: o.Shared}
}

// Index is the queue's number in its device.
func (q *Queue) Index() int { return q.index }

// Configure publishes a view, or with nil stops the queue, and returns the view
// before it. For control: when the domain was waited for afterwards, no worker
// uses the old view. The ring of v must have passed [Ring.Check].
func (q *Queue) Configure(v *View) (old *View) { return q.view.Swap(v) }

// Current is the view last configured. For control.
func (q *Queue) Current() *View { return q.view.Current() }

// Position is where the queue goes on: what was taken and not put is not
// counted. It is exact when the queue was stopped and waited for.
func (q *Queue) Position() Position { return Position(q.shown.Load() >> 16) }

// SetPosition makes the queue go on at p, with used as the used index that the
// driver sees, and mends a broken ring. Only while the queue is stopped and was
// waited for.
func (q *Queue) SetPosition(p Position, used uint16) {
	q.next, q.taken = uint16(p), 0
	q.used, q.published, q.called = used, used, used
	q.badRun = 0
	q.cur = nil
	q.counter, q.unpublished = 0, q.unpublished[:0]
	q.again, q.redone, q.redoing = nil, 0, false
	q.show()
	q.broken.Store(nil)
}

// Err says why the ring is broken: nil or a [*RingError]. From any goroutine.
func (q *Queue) Err() error {
	if e := q.broken.Load(); e != nil {
		return e
	}
	return nil
}

// Begin opens a worker's stay at the queue: it loads the view, and for a shared
// queue takes the gate. r must be inside its section. Unless the answer is Open
// the queue must not be used and End not be called.
func (q *Queue) Begin(r *memtable.Reader) Admission {
	if q.shared && !q.gate.CompareAndSwap(0, 1) {
		return Busy
	}
	v := q.view.Load(r)
	if v == nil || q.broken.Load() != nil {
		q.gate.Store(0)
		return Stopped
	}
	if v != q.cur {
		q.adopt(v)
	}
	q.reader = r
	return Open
}

// adopt resolves what bursts need of a view they have not seen. It touches no
// guest memory: a fault here would leave the gate shut. So the driver of a
// shared queue, where who fills it looks by himself, is told not to kick when
// something is published.
func (q *Queue) adopt(v *View) {
	q.cur = v
	q.ring = wordsOf(v.Ring)
	q.event = v.Features.Has(FeatureEventIdx)
	q.quiet = 0
	if q.shared && !q.event {
		q.quiet = usedNoNotify
	}
}

// End closes the stay: what was taken and not put counts as never taken. It
// touches no guest memory, so that it is safe after a fault.
func (q *Queue) End() {
	q.giveBack(q.taken)
	q.reader = nil
	if it := q.own; it != nil {
		it.b.N, it.at, it.batches = 0, 0, 0
	}
	q.show()
	if q.shared {
		q.gate.Store(0)
	}
}

// View is the view of this stay. Between Begin and End.
func (q *Queue) View() *View { return q.cur }

// Reader is the reader of this stay. Between Begin and End.
func (q *Queue) Reader() *memtable.Reader { return q.reader }

// show lets control see the cursor.
func (q *Queue) show() {
	at := q.next - q.taken - uint16(len(q.again)-q.redone)
	q.shown.Store(uint32(at)<<16 | uint32(q.used))
}

// fail breaks the ring.
func (q *Queue) fail(op string, head uint16, err error) {
	q.broken.CompareAndSwap(nil, &RingError{Queue: q.index, Head: head, Op: op, Err: err})
}
