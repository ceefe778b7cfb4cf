package vhost

import (
	"context"
	"encoding"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is the front-end's end of a connection, message by message: what the
// Frontend is made of, and what tests and probes use by themselves. It keeps
// no state but what was agreed about acknowledgements. One goroutine at a time
// may use it.
//
// An error other than a *[RefusedError] leaves the stream out of step: close
// the Conn.
type Conn struct {
	// NoReply leaves acknowledgements unasked though REPLY_ACK was agreed.
	NoReply bool

	w        *wire
	protocol ProtocolFeatures
	broken   error

	until time.Time                      // no reply is waited for any longer; zero: the timeout alone counts
	note  func(sent *message, err error) // hears of every exchange; nil: nobody
}

// NewConn makes a Conn of c and owns it. The timeout bounds every reply.
func NewConn(c *net.UnixConn, timeout time.Duration) *Conn {
	return &Conn{w: newWire(c, timeout)}
}

// DialConn connects to the back-end that listens on path.
func DialConn(ctx context.Context, path string, timeout time.Duration) (*Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("vhost-user back-end: %w", err)
	}
	return NewConn(c.(*net.UnixConn), timeout), nil
}

// Close ends the connection. A call that waits for a reply returns.
func (c *Conn) Close() error {
	return c.w.c.Close()
}

// Send sends a message as it is, right or wrong. The files stay the caller's.
func (c *Conn) Send(request Request, flags uint32, payload []byte, fds ...int) error {
	return c.w.write(uint32(request), flags, payload, fds...)
}

// Receive waits for the next message, whatever it is, for the Conn's timeout.
// Its files are the caller's.
func (c *Conn) Receive() (request Request, flags uint32, payload []byte, fds []int, err error) {
	m, err := c.receive()
	if err != nil {
		return 0, 0, nil, nil, err
	}
	for i := range m.fds.Len() {
		fd, err := m.fds.Take(i)
		if err == nil {
			fds = append(fds, fd)
		}
	}
	return Request(m.Request), m.Flags, append([]byte(nil), m.Payload...), fds, nil
}

// receive reads the next message and wants it to begin within the timeout.
func (c *Conn) receive() (*message, error) {
	begin := time.Now().Add(c.w.timeout)
	if !c.until.IsZero() && c.until.Before(begin) {
		begin = c.until
	}
	return c.w.readBefore(begin)
}

// ask sends a request that has a reply of its own and decodes it.
func (c *Conn) ask(r Request, payload encoding.BinaryAppender, reply encoding.BinaryUnmarshaler, fds ...int) error {
	return c.exchange(r, flagVersion, payload, reply, fds...)
}

// tell sends a request that is acknowledged when that was agreed.
func (c *Conn) tell(r Request, payload encoding.BinaryAppender, fds ...int) error {
	if c.NoReply || !c.protocol.Has(ProtocolReplyAck) {
		return c.exchange(r, flagVersion, payload, nil, fds...)
	}
	var code U64
	if err := c.exchange(r, flagVersion|flagNeedReply, payload, &code, fds...); err != nil {
		return err
	}
	return refused(r, uint64(code))
}

// refused makes an error of an acknowledgement that is not zero.
func refused(r Request, code uint64) error {
	if code != 0 {
		return &RefusedError{r, code}
	}
	return nil
}

// exchange sends one request and, unless reply is nil, reads its answer.
func (c *Conn) exchange(r Request, flags uint32, payload encoding.BinaryAppender, reply encoding.BinaryUnmarshaler, fds ...int) error {
	if c.broken != nil {
		return fmt.Errorf("vhost-user %v: connection failed before: %w", r, c.broken)
	}
	var p []byte
	if payload != nil {
		var err error
		if p, err = payload.AppendBinary(nil); err != nil {
			return &ProtocolError{r, err} // not sent: the stream is in step
		}
	}
	err := c.w.write(uint32(r), flags, p, fds...)
	if err == nil && reply != nil {
		err = c.reply(r, reply)
	}
	if c.note != nil {
		c.note(&message{uint32(r), flags, p, &fdSet{fds: fds}}, err)
	}
	if err != nil {
		c.broken = err
		return fmt.Errorf("vhost-user %v: %w", r, err)
	}
	return nil
}

// reply reads the answer to r: the same number, the reply flag, version 1 and
// nothing else (vhost-user, "Header"). Files come with it only if the answer
// is one that has files.
func (c *Conn) reply(r Request, into encoding.BinaryUnmarshaler) error {
	m, err := c.receive()
	if err != nil {
		return err
	}
	defer m.fds.Close()
	switch {
	case Request(m.Request) != r:
		return &ProtocolError{r, fmt.Errorf("answered by %v", Request(m.Request))}
	case m.Flags != flagVersion|flagReply:
		return &ProtocolError{r, fmt.Errorf("answered with flags %#x, not %#x", m.Flags, flagVersion|flagReply)}
	}
	taker, takes := into.(fileTaker)
	if n := m.fds.Len(); n > 0 && !takes {
		return &ProtocolError{r, fmt.Errorf("answered with %d files, and it has none", n)}
	}
	if err := into.UnmarshalBinary(m.Payload); err != nil {
		return &ProtocolError{r, err}
	}
	if takes {
		if err := taker.takeFiles(m.fds); err != nil {
			return &ProtocolError{r, err}
		}
	}
	return nil
}

// fileTaker is an answer that brings files. What it does not take is closed.
type fileTaker interface{ takeFiles(*fdSet) error }

// SetBackendReqFD gives the back-end its end of a new channel and returns
// ours, for the requests of the back-end.
func (c *Conn) SetBackendReqFD() (*net.UnixConn, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	defer closeFD(pair[1])
	ours, err := unixConn(pair[0])
	if err != nil {
		return nil, err
	}
	if err := c.tell(SetBackendReqFD, nil, pair[1]); err != nil {
		ours.Close()
		return nil, err
	}
	return ours, nil
}
