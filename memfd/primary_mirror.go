package memfd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vhostd/vhostd/memtable"
)

// A peer is a mirror of all memory of the arena. It takes an arrival, refuses
// it, or is given up; then the growth goes on without it, and what it may have
// mapped counts as its own until it is gone.

// errEnded says that there is no answer, and there will be none.
var errEnded = errors.New("the connection has ended")

// Arrive implements memtable.Mirror.
func (q *peer) Arrive(ctx context.Context, e []memtable.Extent) error {
	if err := ctx.Err(); err != nil && q.why() == nil {
		return err
	}
	e = q.sieve(e, q.lacks)
	if err := q.arrive(e); err != nil {
		return err
	}
	q.mark(e, true) // or so it seems: what it may have mapped counts
	return nil
}

// arrive tells of extents that the secondary has to map, all of them or none.
// It does not end early: what was sent has to be answered.
func (q *peer) arrive(e []memtable.Extent) error {
	until := time.Now().Add(q.p.o.Deadline)
	parcels := q.p.a.parcels(e)
	for i, p := range parcels {
		err := q.tell(until, sayArrive, p)
		if errors.Is(err, errEnded) {
			return nil
		}
		if err == nil {
			continue
		}
		// It has undone this parcel; those before it are for us to undo.
		until = time.Now().Add(q.p.o.Deadline)
		for _, p := range parcels[:i] {
			if undo := q.tell(until, sayLeave, p); undo != nil {
				q.drop(fmt.Errorf("undoing a growth that it refused: %w", undo), 0)
				return nil
			}
		}
		return err
	}
	return nil
}

// Leave implements memtable.Mirror. A secondary that is gone has let go.
func (q *peer) Leave(_ context.Context, e []memtable.Extent) error {
	until := time.Now().Add(q.p.o.Deadline)
	e = q.sieve(e, q.has)
	for _, p := range q.p.a.parcels(e) {
		err := q.tell(until, sayLeave, p)
		if errors.Is(err, errEnded) {
			if err = q.absent(); err == nil {
				break
			}
			return err
		}
		if err != nil {
			return &SecondaryError{q.name, q.pid, err}
		}
	}
	q.mark(e, false)
	return nil
}

// tell says one thing, and waits for the answer.
func (q *peer) tell(until time.Time, v verb, p parcel) error {
	select {
	case <-q.ended:
		return errEnded
	default:
	}
	q.seq++
	late := time.NewTimer(time.Until(until))
	defer late.Stop()
	if v != sayArrive {
		p.files = nil
	}
	if err := q.c.write(until, v, q.seq, func(e *encoder) { encodeRuns(e, p.spaces, p.runs) }, p.files...); err != nil {
		q.fail(err)
		return errEnded
	}
	select {
	case a := <-q.acks:
		if a.seq != q.seq {
			q.fail(&wireError{"an answer to something else"})
			return errEnded
		}
		return a.err
	case <-q.ended:
	case <-late.C:
		q.fail(ErrHung)
	}
	return errEnded
}

// fail drops a secondary that is alive, or was until now.
func (q *peer) fail(err error) {
	if isTimeout(err) {
		err = ErrHung
	}
	q.drop(err, 0)
}

// absent waits until a secondary that has ended is gone, but not longer than the
// deadline since then.
func (q *peer) absent() error {
	q.mu.Lock()
	patience, why := q.patience, q.err
	q.mu.Unlock()
	late := time.NewTimer(max(0, time.Until(patience)))
	defer late.Stop()
	select {
	case <-q.gone:
		return nil
	default:
	}
	select {
	case <-q.gone:
		return nil
	case <-late.C:
		return &SecondaryError{q.name, q.pid, fmt.Errorf("%w: it still has the memory mapped: end its process", why)}
	}
}
