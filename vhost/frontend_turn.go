package vhost

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// operation is something that is done with the back-end, its messages in a row.
// l is nil when there is none.
type operation func(l *peerLink) error

// take waits for the turn.
func (f *Frontend) take(ctx context.Context) error {
	select {
	case f.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the front-end is busy with another operation: %w", context.Cause(ctx))
	}
}

func (f *Frontend) give() { <-f.turn }

// do does op in turn, and ends with ctx. An operation that has begun cannot be
// called off in the middle of a message, so it goes on behind the caller's
// back until its own deadline; when it then succeeds, undo, unless nil, takes
// it back before the next one begins.
func (f *Frontend) do(ctx context.Context, op operation, undo func(l *peerLink)) error {
	if err := f.take(ctx); err != nil {
		return err
	}
	return f.run(ctx, op, undo)
}

// run is do for who has the turn, which it gives back.
func (f *Frontend) run(ctx context.Context, op operation, undo func(l *peerLink)) error {
	result := make(chan error)
	left := make(chan struct{})
	go func() {
		defer f.give()
		l := f.link
		err := f.bounded(l, op)
		select {
		case result <- err:
		case <-left:
			if err == nil && undo != nil {
				_ = f.bounded(l, func(l *peerLink) error { undo(l); return nil })
			}
		}
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		close(left)
		return fmt.Errorf("the back-end has not answered yet: %w", context.Cause(ctx))
	}
}

// bounded does op with a deadline for all of its messages. A connection that
// got out of step is given up.
func (f *Frontend) bounded(l *peerLink, op operation) error {
	if l == nil {
		return op(nil)
	}
	l.conn.until = time.Now().Add(f.cfg.Timeout)
	err := op(l)
	if broken := l.conn.broken; broken != nil {
		l.fail(broken)
		err = lostBy(err)
	}
	return err
}

// lostBy makes the error of an operation one that says that the back-end is
// gone.
func lostBy(err error) error {
	if err == nil || errors.Is(err, ErrLost) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// ask is do for the driver, who needs a back-end, and has heard of it.
func (f *Frontend) ask(ctx context.Context, op operation, undo func(l *peerLink)) error {
	return f.askAny(ctx, func(l *peerLink) error {
		if f.news.isDeaf() {
			return ErrLost
		}
		return op(l)
	}, undo)
}

// askAny is ask for what a driver begins with: it has nothing of a back-end
// before, and takes the one there is.
func (f *Frontend) askAny(ctx context.Context, op operation, undo func(l *peerLink)) error {
	return f.do(ctx, func(l *peerLink) error {
		if l == nil {
			return ErrLost
		}
		return op(l)
	}, undo)
}
