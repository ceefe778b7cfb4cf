package vhost

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// seat is the place of the one connection that a device serves at a time.
type seat struct {
	mu    sync.Mutex
	count uint64   // connections that came
	taken *sitting // nil: the seat is free
}

// sitting is a connection in the seat.
type sitting struct {
	number uint64
	cancel context.CancelCauseFunc
	left   chan struct{} // closed when it has given everything back
}

// errSilent ends a connection that waited for its turn and said nothing.
var errSilent = errors.New("nothing was said while another connection was served")

// take waits for the seat and takes it; leave gives it back. While another
// connection sits there, only one that has sent something takes its place:
// what merely looks whether somebody listens disturbs nobody.
func (s *seat) take(ctx context.Context, cancel context.CancelCauseFunc, c *net.UnixConn, patience time.Duration) (leave func(), err error) {
	s.mu.Lock()
	s.count++
	me := &sitting{number: s.count, cancel: cancel, left: make(chan struct{})}
	s.mu.Unlock()
	for spoke := false; ; {
		other := s.sit(me)
		if other == nil {
			return func() { s.rise(me) }, nil
		}
		if other.number > me.number {
			return nil, errReplaced
		}
		if !spoke {
			if spoke, err = speaks(ctx, c, other.left, patience); err != nil {
				return nil, err
			}
			continue
		}
		other.cancel(errReplaced)
		select {
		case <-other.left:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// sit takes the seat if it is free, or tells who sits there.
func (s *seat) sit(me *sitting) *sitting {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken == nil {
		s.taken = me
		return nil
	}
	return s.taken
}

func (s *seat) rise(me *sitting) {
	s.mu.Lock()
	s.taken = nil
	s.mu.Unlock()
	close(me.left)
}

// speaks waits until c has something to read (true) or free is closed (false).
// It reads nothing. A peer that went away, or that is silent for too long, is
// an error.
func speaks(ctx context.Context, c *net.UnixConn, free <-chan struct{}, patience time.Duration) (bool, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return false, err
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return false, err
	}
	wake := make(chan struct{})
	var waker sync.WaitGroup
	waker.Go(func() {
		select {
		case <-free:
		case <-ctx.Done():
		case <-wake:
			return
		}
		_ = c.SetReadDeadline(time.Unix(1, 0)) // in the past: the wait ends
	})
	var events int16
	err = raw.Read(func(fd uintptr) bool {
		events = pollIn(int(fd))
		return events != 0
	})
	close(wake)
	waker.Wait()
	switch {
	case events&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0:
		return false, io.EOF
	case events != 0:
		return true, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	}
	select {
	case <-free:
		return false, nil
	default:
	}
	return false, errors.Join(errSilent, err)
}

// pollIn tells what a read of fd would find.
func pollIn(fd int) int16 {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}}
	if n, err := unix.Poll(fds, 0); n <= 0 || err != nil {
		return 0
	}
	return fds[0].Revents
}
