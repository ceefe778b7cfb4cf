package vnet

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// ErrClosed is why nothing goes on: the driver was closed.
var ErrClosed = errors.New("the network driver is closed")

// ErrNoBuffers is why a wait for frames has no end: the ring is empty, and there
// are no buffers to put into it.
var ErrNoBuffers = errors.New("no buffers to receive in: make the pool larger, or give back what was received")

// burstMax is how many buffers are handled at once.
const burstMax = virtio.BurstMax

// ring is what Tx and Rx have in common: a queue, and a gate that its worker
// takes once for each burst. The driver takes it to stop the queue and to start
// it again, and never keeps it over anything that waits.
type ring struct {
	d     *Driver
	index int
	bufs  Buffers

	mu      sync.Mutex
	q       *virtio.DriverQueue
	line    virtio.Line
	reach   reach
	running bool          // there is a device that serves the ring
	held    bool          // nothing is to be sent: its pair is not in use
	paused  bool          // … until Resume
	closed  bool          // for ever
	why     error         // the ring is broken, and the driver will restart it
	changed chan struct{} // closed when one of the above changes
	restart time.Time     // the last one; of the driver's goroutine
	waits   bool          // for the next one; of the driver's goroutine
	faults  bool          // as it was before the gate was taken
	stats   QueueStats
	back    [burstMax]memtable.Buf // scratch
	holds   []memtable.Buf         // of it, what is the ring's if a call ends in the middle
}

// enter takes the gate. Until leave, memory that vanishes is no crash.
func (r *ring) enter() {
	r.mu.Lock()
	r.faults = memtable.Faults()
}

// leave, deferred, gives the gate back. A fault costs the queue, which is
// restarted; what was done until then counts. So does what a device lied.
func (r *ring) leave() {
	p := recover()
	debug.SetPanicOnFault(r.faults)
	defer r.mu.Unlock()
	if len(r.holds) > 0 {
		r.bufs.Put(r.holds)
		r.holds = nil
	}
	if p != nil {
		fault, ok := memtable.AsFault(p)
		if !ok {
			panic(p)
		}
		r.fail(fault)
	} else if r.running {
		if err := r.q.Err(); err != nil {
			r.fail(err)
		}
	}
}

// fail stops the ring because of err and has the driver restart it.
func (r *ring) fail(err error) {
	r.stop()
	if r.why == nil {
		r.why = err
		poke(r.d.broken)
	}
}

// stop says that no device serves the ring. The gate is held.
func (r *ring) stop() {
	r.running = false
	r.wake()
}

// wake lets everybody look again who waits for a change. The gate is held.
func (r *ring) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// set changes something about the ring.
func (r *ring) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	r.wake()
}

// guard is set for what touches the ring's memory, which the device may have
// made vanish: that is an error.
func (r *ring) guard(do func() error) (err error) {
	r.set(func() { err = memtable.Guard(do) })
	return err
}

// isBroken says why the ring needs a restart; nil: it does not. The device's
// index is looked at, so that nothing goes on at one that cannot be.
func (r *ring) isBroken() error {
	return r.guard(func() error {
		if r.why != nil {
			return r.why
		}
		r.q.Where()
		return r.q.Err()
	})
}

// park waits until the device has called, or anything changed. ready, with the
// gate held, prepares for it and says that there is no need to; sending is for
// who can do nothing while sending is held.
func (r *ring) park(ctx context.Context, sending bool, ready func() (bool, error)) error {
	line, changed, done, err := r.prepare(sending, ready)
	switch {
	case err != nil || done:
		return err
	case line == nil:
		select {
		case <-changed:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err = line.Wait(ctx)
	r.enter()
	defer r.leave()
	r.q.Disarm()
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case r.line == line:
		r.stop() // the device is gone; the driver will hear of it
	}
	return nil
}

// prepare gives the line to wait on, or what else to wait for.
func (r *ring) prepare(sending bool, ready func() (bool, error)) (line virtio.Line, changed chan struct{}, done bool, err error) {
	r.enter()
	defer r.leave()
	switch {
	case r.closed:
		return nil, nil, true, ErrClosed
	case !r.running || sending && (r.held || r.paused):
		return nil, r.changed, false, nil
	}
	if done, err = ready(); done || err != nil {
		return nil, nil, true, err
	}
	return r.line, nil, r.q.Arm(), nil
}

// publish shows the device what was added, and tells it.
func (r *ring) publish() {
	r.q.Publish()
	if r.q.Kick() {
		r.stats.Kicks++
	}
}
