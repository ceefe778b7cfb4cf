package vhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Server serves a Device to front-ends. Its fields must not be changed once it
// serves.
//
// A device has one front-end at a time. A connection that comes while another
// is served waits until it has something to say, and then takes the place of
// the other: that is QEMU coming back before its old connection was seen to
// end. The old session is ended completely first.
type Server struct {
	Device  Device
	Runner  Runner        // nil: Events with a domain for each session
	Log     *slog.Logger  // nil: silent; no peer can flood it
	Timeout time.Duration // for half a message, a worker in Serve, a reply not taken; 0: 10 s
	Hooks   Hooks

	once  sync.Once
	lines *quiet
	seat  seat
	late  atomic.Int32 // sessions that a worker does not leave
}

// Hooks are called when something happens to a server; each may be nil. They
// must return soon.
type Hooks struct {
	Connected    func(*Session)
	Disconnected func(*Session, error) // everything is given back; nil: the peer left
	Failed       func(error)           // dial or accept trouble, not more often than it is logged
}

const (
	defaultTimeout = 10 * time.Second
	// connMax is how many connections a server holds at a time: the one that is
	// served and those that wait for its place.
	connMax = 16
	// After trouble to accept (no file left), and between attempts to connect.
	backoffMin = 10 * time.Millisecond
	backoffMax = time.Second
)

var (
	errReplaced = errors.New("another connection to this device took its place")
	errBusy     = errors.New("too many connections")
)

func (s *Server) timeout() time.Duration {
	if s.Timeout <= 0 {
		return defaultTimeout
	}
	return s.Timeout
}

func (s *Server) quiet() *quiet {
	s.once.Do(func() { s.lines = newQuiet(s.Log) })
	return s.lines
}

// failed tells of trouble that is no session's.
func (s *Server) failed(msg string, err error) {
	if s.quiet().say(slog.LevelWarn, msg, "error", err) && s.Hooks.Failed != nil {
		s.Hooks.Failed(err)
	}
}

// ListenAndServe makes a socket at path and serves whoever connects, until ctx
// ends.
func (s *Server) ListenAndServe(ctx context.Context, path string) error {
	l, err := Listen(path, ListenOptions{UID: -1, GID: -1})
	if err != nil {
		return err
	}
	return s.Serve(ctx, l)
}

// Serve accepts connections from l until ctx ends, and closes l. It returns
// when all sessions have ended. No trouble with one connection, or with
// accepting, ends it.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close()
	var sessions sync.WaitGroup
	defer sessions.Wait()
	room := make(chan struct{}, connMax)
	for pause := backoffMin; ; {
		c, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return ctx.Err()
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			s.failed("connections are not accepted", err)
			sleep(ctx, pause)
			pause = min(2*pause, backoffMax)
			continue
		}
		pause = backoffMin
		select {
		case room <- struct{}{}:
			sessions.Go(func() {
				defer func() { <-room }()
				_ = s.ServeConn(ctx, c) // it was logged
			})
		default:
			_ = c.Close()
			s.failed("connection closed", errBusy)
		}
	}
}

// ServeConn serves one connection and closes it. It returns nil when the peer
// ended it, and otherwise why it ended.
func (s *Server) ServeConn(ctx context.Context, c *net.UnixConn) error {
	defer c.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	leave, err := s.seat.take(ctx, cancel, c, s.timeout())
	if err != nil {
		return err
	}
	defer leave()
	if s.late.Load() >= lateMax {
		err = fmt.Errorf("%d sessions have a worker that does not leave: the handler blocks in Serve", lateMax)
		s.failed("connection closed", err)
		return err
	}
	t, err := s.newSession(ctx, cancel, c)
	if err != nil {
		s.failed("connection closed", err)
		return err
	}
	t.log(slog.LevelInfo, "connected")
	if s.Hooks.Connected != nil {
		s.Hooks.Connected(t)
	}
	err = t.run()
	s.end(t, err)
	if err != nil {
		t.log(slog.LevelWarn, "disconnected", "error", err)
	} else {
		t.log(slog.LevelInfo, "disconnected")
	}
	if s.Hooks.Disconnected != nil {
		s.Hooks.Disconnected(t, err)
	}
	return err
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
