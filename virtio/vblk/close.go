package vblk

import (
	"context"
	"fmt"
)

// Close takes all queues back, fails what is in flight with [ErrClosed], and
// closes the transport. It does not flush. If the transport cannot be sure that
// the device has let go, the memory stays lent, and the error says so.
func (d *Disk) Close() error {
	d.close.Do(func() { d.closeErr = d.shut() })
	return d.closeErr
}

func (d *Disk) shut() error {
	d.stop()
	d.control.Wait()
	d.transport.Lock()
	defer d.transport.Unlock()
	// A device that answers stops in good order; another is cut off.
	_ = d.o.Transport.Reset(context.Background())
	err := d.o.Transport.Close()
	for _, q := range d.queues {
		if err == nil {
			q.bury(isClosed, ErrClosed)
		} else {
			q.leave()
		}
	}
	d.runners.Wait()
	if err != nil {
		return fmt.Errorf("block device: its memory stays lent: %w", err)
	}
	return d.free()
}

// leave ends a queue whose device may still use what is lent: callers hear of
// the end, buffers do not come back.
func (q *Queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.die(isClosed, ErrClosed)
}
