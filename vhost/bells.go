package vhost

import (
	"errors"
	"sync/atomic"
	"time"
)

const (
	// doorbellHang is how long a write may last before it is suspected, and
	// once more before it is said to hang: after a stop of the whole process
	// every write has lasted long.
	doorbellHang = 500 * time.Millisecond
	// doorbellMax is how many doorbells of a session may write at a time. Each
	// write that hangs holds a thread, and Go's runtime ends at 10000.
	doorbellMax = 32
)

// errHang ends a session that makes its doorbells block.
var errHang = errors.New("a write to its call or error eventfd hangs: the counter is full and the file blocks")

// bells is what the doorbells of a session share.
type bells struct {
	hung    func(error) // a write hangs; nil: nobody is told
	writing atomic.Int32
}

// signal writes to the file, or tries again soon when too many of the session's
// doorbells write already. With the gate.
func (d *doorbell) signal(late *time.Timer) {
	defer d.bells.writing.Add(-1)
	if d.bells.writing.Add(1) > doorbellMax {
		d.pending.Store(true)
		time.AfterFunc(doorbellPolite, d.poke)
		return
	}
	d.under.Store(d.told)
	late.Reset(doorbellHang)
	if addEventfd(d.fd) == nil {
		d.writes.Add(1)
	}
	late.Stop()
	d.under.Store(0)
}

// newLate makes the timer that watches over writes.
func (d *doorbell) newLate() (t *time.Timer) {
	t = time.AfterFunc(doorbellHang, func() { d.late(t) })
	t.Stop() // until a write begins
	return t
}

// late is called when a write lasts. It may be called for one that has just
// ended: then it finds none, or another one.
func (d *doorbell) late(timer *time.Timer) {
	n := d.under.Load()
	switch {
	case n == 0:
	case d.suspect.Swap(n) != n:
		timer.Reset(doorbellHang)
	case d.bells.hung != nil:
		d.bells.hung(errHang)
	}
}
