package vblk

import (
	"context"

	"github.com/vhostd/vhostd/virtio"
)

// run serves one of the disk's own queues: it reaps, and sleeps in between. It
// ends when the queue is closed.
func (q *Queue) run() {
	for {
		q.mu.Lock()
		if q.line != nil {
			_ = q.guard(func() error { q.dq.Disarm(); return nil })
		}
		q.reap(nil)
		if q.state == isClosed {
			q.mu.Unlock()
			return
		}
		line, work := q.line, q.line != nil && q.arm()
		q.mu.Unlock()
		if work || line != nil && line.Wait(q.disk.ctx) == nil {
			continue
		}
		_ = q.awaitAfter(context.Background(), line)
	}
}

// arm asks the device for a call; work: there is no need to wait for one. mu is
// held.
func (q *Queue) arm() (work bool) {
	err := q.guard(func() error { work = q.dq.Arm(); return nil })
	return work || err != nil
}

// awaitAfter waits until the queue has another line than this one, or another
// reason to have none: the ring was taken back, and control is about to say what
// follows.
func (q *Queue) awaitAfter(ctx context.Context, line virtio.Line) error {
	q.mu.Lock()
	if q.line != line || q.state == isClosed {
		q.mu.Unlock()
		return nil
	}
	changed := q.changed()
	q.mu.Unlock()
	return await(ctx, changed)
}

// await waits for a change.
func await(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
