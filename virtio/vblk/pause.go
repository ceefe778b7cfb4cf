package vblk

import "context"

// Pause stops lending, and returns when all that is lent has come back, or
// waits for another device. Who reads direct queues must go on completing. It is
// for a transport that must move memory (vhost.Pauser).
func (d *Disk) Pause(ctx context.Context) error {
	for _, q := range d.queues {
		q.mu.Lock()
		q.paused = true
		q.mu.Unlock()
	}
	for _, q := range d.queues {
		if err := q.drain(ctx); err != nil {
			return err
		}
	}
	return nil
}

// drain waits until nothing is lent.
func (q *Queue) drain(ctx context.Context) error {
	for {
		q.mu.Lock()
		idle := q.state != isRunning || q.dq.Lent() == 0
		changed := q.changed()
		q.mu.Unlock()
		if idle {
			return nil
		}
		if err := await(ctx, changed); err != nil {
			return err
		}
	}
}

// Resume goes on after Pause.
func (d *Disk) Resume() {
	for _, q := range d.queues {
		q.mu.Lock()
		q.paused = false
		q.tell()
		q.mu.Unlock()
	}
}
