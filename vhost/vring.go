package vhost

import (
	"sync"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// vring is what a session knows of one ring. It belongs to the session's
// goroutine and to whom holds the session's lock; what is under mu is shared
// with the workers.
type vring struct {
	queue  *virtio.Queue
	shared bool // Spec.Shared: others fill it

	size    uint16          // SET_VRING_NUM; 0: not yet
	addr    VringAddr       // SET_VRING_ADDR
	located bool            // addr came
	base    virtio.Position // SET_VRING_BASE, and after a stop where the queue was

	phase   phase
	enabled bool  // SET_VRING_ENABLE
	owed    bool  // the driver may wait for a call from before this session
	told    bool  // the handler heard of a view, and of no stop since
	missing error // why a started ring has no memory; nil: it has

	job       *Job   // from start to stop, unless shared
	kicks     uint64 // of the jobs before
	call, err *doorbell
	kickFD    int // -1: none, a job's ring is polled. For Info: job, call and err own the files
	callFD    int
	errFD     int

	mu     sync.Mutex
	view   *virtio.View // as last configured
	broken error        // why the worker gave the ring up, until the next start
}

// phase is where a ring is between its start and its stop.
type phase uint8

const (
	ringStopped  phase = iota // before SET_VRING_KICK, after GET_VRING_BASE
	ringWaiting               // started, and has had no memory yet: it will begin at base
	ringRunning               // placed: its position is the queue's, base is of the past
	ringStopping              // its view is taken away, workers may still be inside
)

// started says whether the ring is between SET_VRING_KICK and GET_VRING_BASE.
func (r *vring) started() bool { return r.phase == ringWaiting || r.phase == ringRunning }

// halt begins the stop of a ring that is started.
func (r *vring) halt() {
	switch r.phase {
	case ringWaiting:
		r.phase = ringStopped
	case ringRunning:
		r.phase = ringStopping
	}
}

func newVring(queue *virtio.Queue, shared bool, b *bells) *vring {
	return &vring{queue: queue, shared: shared, owed: true, call: newDoorbell(b), err: newDoorbell(b), kickFD: -1, callFD: -1, errFD: -1}
}

// configure publishes v, unless the ring is broken: then nothing brings it
// back before the next start. changed: a view was taken away or replaced, so
// workers may still use the old one.
func (r *vring) configure(v *virtio.View) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken != nil {
		v = nil
	}
	old := r.view
	r.view = v
	r.queue.Configure(v)
	return old != nil
}

// fail breaks the ring, once: it has no view from now on and the driver's side
// is told by the error eventfd. Workers call it, so it waits for nobody.
func (r *vring) fail(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken != nil {
		return false
	}
	r.broken = err
	r.queue.Configure(nil)
	r.err.Ring()
	return true
}

// heal forgets that the ring was broken. Only while it is stopped; the queue
// itself is mended when it gets a position.
func (r *vring) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = nil
}

// current is the view as last configured, and why the ring is broken.
func (r *vring) current() (*virtio.View, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.view, r.broken
}

// place makes the queue begin: at the base, or where its record says. The used
// index is the driver's to see already, so it is read back from its memory
// (vhost-user, SET_VRING_BASE).
func (r *vring) place(v *virtio.View) error {
	var used uint16
	err := memtable.Guard(func() error {
		used = virtio.UsedIndex(v.Ring)
		if v.Inflight != nil {
			return r.queue.Resume(v.Ring, v.Inflight, r.base)
		}
		r.queue.SetPosition(r.base, used)
		return nil
	})
	if err != nil {
		return err
	}
	r.phase = ringRunning
	// The back-end that was here before this session may have died between
	// showing what it used and calling. The driver waits for that call, and with
	// EVENT_IDX no later chain would bring it. One too many does no harm.
	if r.owed && (used != 0 || r.base != 0) {
		r.call.Ring()
	}
	r.owed = false
	return nil
}

// position is where the ring goes on. It is exact when no worker is inside.
func (r *vring) position() virtio.Position {
	if r.phase == ringRunning || r.phase == ringStopping {
		return r.queue.Position()
	}
	return r.base
}

// forget drops what a front-end configured (RESET_DEVICE). The ring is stopped.
func (r *vring) forget() {
	r.size, r.addr, r.located, r.base = 0, VringAddr{}, false, 0
}

// sameView says whether two views of a ring are the same to a worker. Call is
// the ring's doorbell for its life, and Unlogged goes with Log.
func sameView(a, b *virtio.View) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Ring.Size == b.Ring.Size && &a.Ring.Desc[0] == &b.Ring.Desc[0] &&
		&a.Ring.Avail[0] == &b.Ring.Avail[0] && &a.Ring.Used[0] == &b.Ring.Used[0] &&
		a.Features == b.Features && a.Mem == b.Mem && a.Enabled == b.Enabled &&
		a.Log == b.Log && a.Inflight == b.Inflight && a.LogUsed == b.LogUsed && a.UsedLog == b.UsedLog
}
