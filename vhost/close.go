package vhost

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// leave takes every worker out of the session: no ring has a view, no job a
// worker. It may be called again after an error; then not all have left.
func (s *Session) leave() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Not s.ctx: it has ended.
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	for _, r := range s.rings {
		r.halt()
		r.configure(nil)
	}
	var err error
	s.unlocked(func() { err = s.runner.Domain().Wait(ctx) })
	if err != nil {
		return err
	}
	for _, r := range s.rings {
		if err := s.detach(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// release gives back all that the session holds. All workers have left.
func (s *Session) release() {
	s.mu.Lock()
	for _, r := range s.rings {
		if r.told {
			s.changed(r, nil)
		}
	}
	var errs []error
	s.unlocked(func() { errs = append(errs, s.handler.Close()) })
	gone := s.condemned
	for _, r := range s.memory.regions {
		gone = append(gone, r.mapping)
	}
	if s.dirty != nil {
		gone = append(gone, s.dirty.Mapping())
	}
	if s.inflight != nil {
		gone = append(gone, s.inflight.mapping)
	}
	s.memory, s.dirty, s.inflight, s.condemned = &memory{changed: s.memory.changed}, nil, nil, nil
	s.dropChannel()
	s.mu.Unlock()

	s.unmap(gone)
	for _, r := range s.rings {
		errs = append(errs, r.call.Close(), r.err.Close())
	}
	_ = s.wire.c.Close() // maybe again
	if err := errors.Join(errs...); err != nil {
		s.log(slog.LevelError, "session did not end well", "error", err)
	}
}

// end ends the session. When it returns everything is given back, unless a
// worker does not leave the handler: then a goroutine goes on trying, since
// memory must not be unmapped under it, and counts as one of s.late.
func (s *Server) end(t *Session, cause error) {
	t.cancel(cause)
	err := t.leave()
	if err == nil {
		t.release()
		return
	}
	t.log(slog.LevelError, "a worker does not leave: its memory stays mapped until it does", "error", err)
	s.late.Add(1)
	go func() {
		defer s.late.Add(-1)
		for err != nil {
			time.Sleep(lateRetry) // an error may come at once
			err = t.leave()
		}
		t.release()
	}()
}

const (
	// lateRetry is how long to wait before workers are asked to leave again.
	lateRetry = time.Second
	// lateMax is how many sessions with a worker that does not leave a server
	// bears before it accepts no more.
	lateMax = 8
)
