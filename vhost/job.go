package vhost

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Job is one ring that a Runner serves. The server makes it and fills in the
// exported fields; it is attached once and detached once, then closed.
//
// The owner's Fail and Broken are called by the worker outside its section.
// They must not wait for the worker.
type Job struct {
	Name    string // of the owner and the ring, for people
	Owner   Owner  // a worker joins its domain for it
	Queue   *virtio.Queue
	Handler Handler
	Broken  func(error) // the ring is lost

	mu     sync.Mutex
	w      *waiter // made when first needed
	closed bool

	stop atomic.Bool
	done chan struct{} // closed when the worker has left; nil: never attached
}

// Owner is who is to blame for memory that vanishes and for a worker that is
// late: a pointer, in practice a [Session].
type Owner interface {
	Fail(error) // the connection is lost
}

// waiter returns the job's waiter.
func (j *Job) waiter() (*waiter, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, errClosed
	}
	if j.w == nil {
		w, err := newWaiter()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", j.Name, err)
		}
		j.w = w
	}
	return j.w, nil
}

// SetKick changes what wakes the job: fd, an eventfd that is the job's from
// now on, error or not; or with fd -1 the clock, if poll is set (SET_VRING_KICK
// with bit 8), and nothing otherwise. The old file is closed when SetKick
// returns. The ring is looked at once after every change, so no kick is lost.
func (j *Job) SetKick(fd int, poll bool) error {
	w, err := j.waiter()
	if err != nil {
		closeFD(fd)
		return err
	}
	return w.Set(fd, poll)
}

// Kicks counts the times the kick file woke the job.
func (j *Job) Kicks() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.w == nil {
		return 0
	}
	return j.w.kicks.Load()
}

// Close gives the kick file back. The job must have been detached.
func (j *Job) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	if j.w == nil {
		return nil
	}
	return j.w.Close()
}

// Serve looks at the ring once, in a section of r: it serves it when it is
// enabled, and drops what the handler drops when it is not. again: there is
// work left, and no kick will tell of it. It is the body of every Runner; the
// calling goroutine must have [memtable.Faults] on.
func (j *Job) Serve(r *memtable.Reader) (again bool) {
	again, err := j.look(r)
	if err == nil {
		return again
	}
	if fault, ok := errors.AsType[*memtable.FaultError](err); ok {
		return j.blame(fault)
	}
	j.Broken(err)
	return again
}

// look is Serve inside its section. A fault of the peer's memory comes back as
// a *memtable.FaultError; by then the queue has ended its stay and the section
// is left, since deferred calls run last to first.
func (j *Job) look(r *memtable.Reader) (again bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			fault, ok := memtable.AsFault(v)
			if !ok {
				panic(v) // a mistake of ours, not the peer's
			}
			again, err = false, fault
		}
	}()
	r.Enter()
	defer r.Leave()
	q := j.Queue
	if q.Begin(r) != virtio.Open {
		return false, nil
	}
	defer q.End()
	serve := j.Handler.Serve
	if !q.View().Enabled {
		d, ok := j.Handler.(Dropper)
		if !ok {
			return false, nil // paused: nothing is taken, nothing written
		}
		serve = d.Drop
	}
	q.Disarm()
	if err := serve(q); err != nil {
		return false, err
	}
	again = q.Arm()
	return again, q.Err()
}

// blame ends the connection whose memory is gone. That may be another one than
// the ring's, since a copy has two owners: then this ring has to go on with
// what it gave back, and no kick will tell it to. At its own end there is
// nothing to go on with, and the next look would fault too.
func (j *Job) blame(f *memtable.FaultError) (again bool) {
	owner, ok := f.Owner.(Owner)
	if !ok {
		owner = j.Owner
	}
	owner.Fail(f)
	return owner != j.Owner
}
