package vhost

import (
	"context"
	"fmt"

	"github.com/vhostd/vhostd/memtable"
)

// Runner serves jobs on workers of its own.
type Runner interface {
	Domain() *memtable.Domain
	Attach(*Job) error                  // serves from now on, and looks at the ring once
	Detach(context.Context, *Job) error // nil: no worker is in the job, nor will be
	Wake(*Job)                          // look at the ring once; any goroutine, never blocks
}

// events is the Runner with a goroutine per job.
type events struct{ domain *memtable.Domain }

// Events runs a goroutine per job, parked on its kick: no time is used while
// nothing happens, and a handler that blocks holds up its own ring only. A nil
// domain makes one for itself.
func Events(d *memtable.Domain) Runner {
	if d == nil {
		d = new(memtable.Domain)
	}
	return &events{d}
}

// Domain implements Runner.
func (e *events) Domain() *memtable.Domain { return e.domain }

// Attach implements Runner.
func (e *events) Attach(j *Job) error {
	w, err := j.waiter()
	if err != nil {
		return err
	}
	if j.done != nil {
		return fmt.Errorf("%s: job was attached before", j.Name)
	}
	j.done = make(chan struct{})
	go e.run(j, w)
	return nil
}

// Detach implements Runner. With an error from ctx the goroutine is still in
// the handler; it leaves as soon as that returns.
func (e *events) Detach(ctx context.Context, j *Job) error {
	if j.done == nil {
		return nil
	}
	j.stop.Store(true)
	e.Wake(j)
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: its handler does not return: %w", j.Name, ctx.Err())
	}
}

// Wake implements Runner.
func (e *events) Wake(j *Job) {
	if w, err := j.waiter(); err == nil {
		w.Wake()
	}
}

// run is the goroutine of one job.
func (e *events) run(j *Job, w *waiter) {
	defer close(j.done)
	memtable.Faults() // of this goroutine, which ends here: nothing to restore
	r := e.domain.JoinFor(j.Owner, j.Name)
	defer r.Close()
	for ok := true; ok && !j.stop.Load(); {
		worked := false
		for j.Serve(r) && !j.stop.Load() {
			worked = true
		}
		ok = w.Wait(worked)
	}
}
