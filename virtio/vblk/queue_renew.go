package vblk

import (
	"cmp"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// renew empties the ring for a device that knows nothing of it, and lends again
// what was in flight: flushes last, so that what they are to make durable is
// there before them. After an error, the ring's memory being gone, what could
// not be lent has failed.
func (q *Queue) renew(once bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.state == isClosed {
		return nil
	}
	pending := q.reclaim()
	slices.SortStableFunc(pending, func(a, b uint16) int {
		return cmp.Compare(q.flushes(a), q.flushes(b))
	})
	q.state = isLost
	q.dead.Store(nil)
	err := memtable.Guard(func() error {
		q.dq.Reset()
		for len(pending) > 0 {
			q.again(pending[0], once)
			pending = pending[1:]
		}
		return nil
	})
	for _, i := range pending {
		q.fail(i, ErrLost)
	}
	q.shown = false
	q.tell()
	return err
}

// flushes is 1 for a slot that holds a flush, 0 for others.
func (q *Queue) flushes(i uint16) int {
	if q.slots[i].Type == TypeFlush {
		return 1
	}
	return 0
}

// again lends slot i once more, if it is not to be given up. A time that no
// device saw does not count. mu is held.
func (q *Queue) again(i uint16, once bool) {
	s := &q.slots[i]
	if !q.shown {
		s.sent--
	}
	if once || s.sent >= maxSends || q.lend(i) != nil {
		q.fail(i, ErrLost)
		return
	}
	if q.shown {
		q.stats.Resent++
	}
}
