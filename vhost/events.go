package vhost

import (
	"context"
	"sync/atomic"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Job is one ring that a Runner serves. The server makes it and fills in the
// exported fields; it is attached once and detached once, then closed.
type Job struct {
	Queue   *virtio.Queue
	Handler Handler
	Fail    func(error) // the connection is lost
	Broken  func(error) // the ring is

	kicks atomic.Uint64
}

// SetKick changes what wakes the job: fd, an eventfd that is the job's from
// now on, error or not; or with fd -1 the clock, if poll is set (SET_VRING_KICK
// with bit 8), and nothing otherwise. The old file is closed when SetKick
// returns. The ring is looked at once after every change, so no kick is lost.
func (j *Job) SetKick(fd int, poll bool) error { panic("stub") }

// Kicks counts the times the kick file woke the job.
func (j *Job) Kicks() uint64 { return j.kicks.Load() }

// Close gives the kick file back. The job must have been detached.
func (j *Job) Close() error { panic("stub") }

// Runner serves jobs on goroutines of its own.
type Runner interface {
	Domain() *memtable.Domain
	Attach(*Job) error                  // serves from now on, and looks at the ring once
	Detach(context.Context, *Job) error // nil: no worker is in the job, nor will be
	Wake(*Job)                          // look at the ring once; any goroutine, never blocks
}

// Events runs a goroutine per job, parked on its kick. A nil domain makes one
// for itself.
func Events(d *memtable.Domain) Runner { panic("stub") }
