package vblk

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/vhostd/vhostd/virtio"
)

// Attachment is a device while a driver is there: a vhost.Handler.
//
// The worker of a ring does its requests, and waits for the storage meanwhile:
// it must be that ring's alone (vhost.Events). Chains come back in bursts, each
// exactly once, by the worker. A burst's requests may be done side by side
// ([DeviceOptions]); those of later ones are not begun before it is back.
type Attachment struct {
	d        *Device
	id       [IDLen]byte
	features atomic.Uint64
	rings    []scratch
}

// scratch is what the worker of a ring works with.
type scratch struct {
	burst    virtio.Burst
	requests [virtio.BurstMax]request
}

// Attach makes the state of one connection. It begins with writeback on, as
// after a reset.
func (d *Device) Attach() *Attachment {
	d.writeback.Store(!d.o.ReadOnly)
	a := &Attachment{d: d, rings: make([]scratch, d.o.Queues)}
	copy(a.id[:], d.o.Serial)
	return a
}

// Negotiated implements vhost.Negotiator.
func (a *Attachment) Negotiated(f virtio.Features) { a.features.Store(uint64(f)) }

// Close implements vhost.Handler. The storage stays open.
func (a *Attachment) Close() error { return nil }

const (
	// burstMax is how many requests are taken at once when they are done one after
	// another: the first waits for the last to be told of.
	burstMax = 16
	// stayBytes is what a worker moves before it leaves the section it is in: who
	// waits for it to stop a ring waits no longer than for that and one request.
	stayBytes = 8 << 20
)

// Serve implements vhost.Handler.
func (a *Attachment) Serve(q *virtio.Queue) error {
	w := &a.rings[q.Index()]
	limit := burstMax
	if a.d.o.Parallel > 1 {
		limit = min(a.d.o.Parallel, virtio.BurstMax)
	}
	for moved := uint64(0); moved < stayBytes; {
		n := q.Take(&w.burst, virtio.Both, limit)
		for i := range n {
			r := &w.requests[i]
			r.parse(&w.burst, i)
			if moved += r.bytes + r.room; moved >= stayBytes {
				n = i + 1
				q.Untake(&w.burst, n)
			}
		}
		if n == 0 {
			return nil
		}
		a.burst(w, n)
		q.Put(&w.burst)
		if q.Publish() {
			q.Call()
		}
	}
	return nil
}

// burst does n requests and answers them.
func (a *Attachment) burst(w *scratch, n int) {
	if a.d.o.Parallel > 1 && n > 1 {
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() { a.run(&w.requests[i]) })
		}
		all.Wait()
	} else {
		for i := range n {
			a.run(&w.requests[i])
		}
	}
	for i := range n {
		if w.burst.Elem[i].Segs == 0 {
			continue // a bad chain, counted by the queue
		}
		r := &w.requests[i]
		if r.room == 0 {
			a.d.count.mute.Add(1) // there is no byte to tell the status in
			continue
		}
		r.answer(&w.burst, i, &a.id)
		a.d.count.note(r, r.err)
	}
}

// errRefused is a request that the device does not even try.
var errRefused = errors.New("refused")

// statusOf is how a driver is told.
func statusOf(err error) Status {
	switch {
	case err == nil:
		return StatusOK
	case errors.Is(err, ErrUnsupported):
		return StatusUnsupp
	}
	return StatusIOErr
}

// run does a request. It touches guest memory through the kernel only.
func (a *Attachment) run(r *request) {
	if r.room == 0 {
		return // nothing is done that nobody can be told of
	}
	if r.err = a.do(r); r.err == nil && r.header.Type == TypeIn {
		r.filled = true
	}
}

func (a *Attachment) do(r *request) error {
	if !r.known {
		return fmt.Errorf("%w: no whole header", errRefused)
	}
	d, t := a.d, r.header.Type
	if d.o.ReadOnly && t.writes() {
		return fmt.Errorf("%w: the disk is read-only", errRefused)
	}
	switch t {
	case TypeIn, TypeOut:
		off, err := d.extent(r.header.Sector, r.bytes)
		switch {
		case err != nil:
			return err
		case r.bytes == 0:
			return nil
		case t == TypeIn:
			return d.o.Storage.ReadVec(r.data, off)
		}
		return d.o.Storage.WriteVec(r.data, off, a.durable())
	case TypeFlush:
		if d.o.ReadOnly {
			return nil // there is nothing of ours to flush
		}
		return d.o.Storage.Sync()
	case TypeGetID:
		return nil
	case TypeDiscard, TypeWriteZeroes:
		return a.doRanges(t, r.ranges)
	}
	return ErrUnsupported
}

// extent checks n bytes from sector on against the disk.
func (d *Device) extent(sector, n uint64) (off int64, err error) {
	capacity := d.capacity.Load() // no more than fits into an int64 in bytes
	switch {
	case n%SectorSize != 0:
		return 0, fmt.Errorf("%w: %d bytes are no whole sectors", errRefused, n)
	case n > deviceDataMax:
		return 0, fmt.Errorf("%w: %d bytes are more than size_max and seg_max allow", errRefused, n)
	case n/SectorSize > capacity || sector > capacity-n/SectorSize:
		return 0, fmt.Errorf("%w: past the end of the disk", errRefused)
	}
	return int64(sector * SectorSize), nil
}

// durable says whether a write must have reached the disk when it is answered:
// the driver cannot flush, or chose so (virtio 1.2, 5.2.6.2).
func (a *Attachment) durable() bool {
	f := virtio.Features(a.features.Load())
	return !f.Has(FeatureFlush) || f.Has(FeatureConfigWCE) && !a.d.writeback.Load()
}
