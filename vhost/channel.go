package vhost

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// channel is the back-end's own way to the front-end (vhost-user,
// SET_BACKEND_REQ_FD). One goroutine uses it, so that the session serves the
// main socket while the front-end makes up its mind: QEMU asks for the config
// space there before it answers here.
//
// The socket's open file is shared with the peer, who can make it block. So no
// deadline holds there; what ends every call is shutdown.
type channel struct {
	conn    *net.UnixConn
	wire    *wire
	timeout time.Duration
	changed chan struct{} // CONFIG_CHANGE_MSG is wanted; closed: the end
	ack     atomic.Bool   // the front-end answers
	done    chan struct{}
}

func (s *Session) setBackendReqFD(m *message) (payload, error) {
	fd, err := m.fds.Take(0)
	if err != nil {
		return nil, err
	}
	conn, err := connectedSocket(fd)
	if err != nil {
		return nil, err
	}
	s.dropChannel()
	c := &channel{
		conn:    conn,
		wire:    newWire(conn, s.timeout),
		timeout: s.timeout,
		changed: make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	s.channel = c
	go c.run(func(msg string, err error) { s.log(slog.LevelWarn, msg, "error", err) })
	return nil, nil
}

// dropChannel ends the channel, if there is one.
func (s *Session) dropChannel() {
	if s.channel != nil {
		c := s.channel
		s.channel = nil
		s.unlocked(c.close)
	}
}

// connectedSocket makes a connection of fd, which it closes in any case.
func connectedSocket(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "back-end channel")
	defer f.Close()
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, fmt.Errorf("the file is no socket: %w", err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || domain != unix.AF_UNIX || kind != unix.SOCK_STREAM {
		return nil, errors.New("the file is no unix stream socket")
	}
	if _, err := unix.Getpeername(fd); err != nil {
		return nil, fmt.Errorf("the socket is not connected: %w", err)
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil // a unix stream socket, as tested above
}

// notify has the front-end told, with a wish for an answer when ack is set.
func (c *channel) notify(ack bool) {
	c.ack.Store(ack)
	select {
	case c.changed <- struct{}{}:
	default: // one is on its way already
	}
}

// run sends what notify asks for until close, one message at a time.
func (c *channel) run(log func(string, error)) {
	defer close(c.done)
	defer c.conn.Close()
	for range c.changed {
		end := time.AfterFunc(c.timeout, c.shutdown)
		code, err := c.tell(c.ack.Load())
		end.Stop()
		switch {
		case err != nil:
			log("back-end channel lost: changes of the config space are not told any more", err)
			for range c.changed { // until close; nobody listens any more
			}
		case code != 0:
			log("the front-end could not follow a change of the config space", fmt.Errorf("it answered %d", code))
		}
	}
}

// tell sends CONFIG_CHANGE_MSG and reads the answer's number.
func (c *channel) tell(ack bool) (code U64, err error) {
	const request = BackendConfigChange
	flags := uint32(flagVersion)
	if ack {
		flags |= flagNeedReply
	}
	if err := c.wire.write(uint32(request), flags, nil); err != nil || !ack {
		return 0, err
	}
	m, err := c.wire.readBefore(time.Now().Add(c.timeout))
	if err != nil {
		return 0, err
	}
	defer m.fds.Close()
	if m.Request != uint32(request) || m.Flags&flagReply == 0 {
		return 0, fmt.Errorf("%v was answered by message %d with flags %#x", request, m.Request, m.Flags)
	}
	return decode[U64](m)
}

// shutdown makes every call on the socket return.
func (c *channel) shutdown() {
	raw, err := c.conn.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	}
}

// close ends the channel and returns when its goroutine has.
func (c *channel) close() {
	c.shutdown()
	close(c.changed)
	<-c.done
}
