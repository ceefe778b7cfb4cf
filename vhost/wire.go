package vhost

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxFDs is how many files one message may bring: eight regions, and one to
// spare so that a ninth is seen and refused rather than cut off by the kernel.
const maxFDs = maxRegions + 1

// message is one request or reply. It belongs to the wire it came from and is
// valid until the next read there.
type message struct {
	Request uint32 // Request or BackendRequest, by the direction of the socket
	Flags   uint32
	Payload []byte
	fds     *fdSet
}

func (m *message) needReply() bool { return m.Flags&flagNeedReply != 0 }

// wire moves messages over a stream socket. One goroutine may read while
// another writes.
//
// A header is read by itself, with exactly its 12 bytes: files come with the
// first byte of the sendmsg they were given to, and a read that took more
// could take the next message's files along (vhost-user, "Communication").
type wire struct {
	c       *net.UnixConn
	timeout time.Duration

	msg  message
	fds  fdSet
	head [headerBytes]byte
	body [maxPayload]byte
	oob  []byte

	out []byte // the writer's
}

// newWire wraps c. The timeout bounds a message that has begun to come, and a
// write that the peer does not take; between messages a wire waits for ever.
func newWire(c *net.UnixConn, timeout time.Duration) *wire {
	return &wire{
		c:       c,
		timeout: timeout,
		oob:     make([]byte, unix.CmsgSpace(4*maxFDs)),
		out:     make([]byte, 0, headerBytes+maxPayload),
	}
}

// read returns the next message. At the end of the stream, between messages,
// the error is io.EOF; every other error leaves the stream out of step, so the
// connection is over. No error leaves a file open.
//
// What was not taken of the last message's files is closed here.
func (w *wire) read() (*message, error) { return w.readBefore(time.Time{}) }

// readBefore is read for one who expects a message: it must begin before t.
func (w *wire) readBefore(t time.Time) (*message, error) {
	w.fds.Close()
	m, err := w.receive(t)
	if err != nil {
		w.fds.Close()
		return nil, err
	}
	return m, nil
}

func (w *wire) receive(begin time.Time) (*message, error) {
	if err := w.c.SetReadDeadline(begin); err != nil {
		return nil, err
	}
	if err := w.fill(w.head[:], true); err != nil {
		return nil, err
	}
	request, flags, size := order.Uint32(w.head[:]), order.Uint32(w.head[4:]), order.Uint32(w.head[8:])
	if v := flags & flagVersionMask; v != flagVersion {
		return nil, &ProtocolError{Request(request), fmt.Errorf("message of protocol version %d, not 1", v)}
	}
	if size > maxPayload {
		return nil, &ProtocolError{Request(request), fmt.Errorf("payload of %d bytes: the largest is %d", size, maxPayload)}
	}
	if err := w.fill(w.body[:size], false); err != nil {
		return nil, err
	}
	w.msg = message{request, flags, w.body[:size], &w.fds}
	return &w.msg, nil
}

// fill reads exactly p and gathers the files that come with it. As soon as a
// message has begun its rest has a deadline: half a message must not hold what
// came with it for ever.
func (w *wire) fill(p []byte, first bool) error {
	for got := 0; got < len(p); {
		n, oobn, flags, _, err := w.c.ReadMsgUnix(p[got:], w.oob)
		if cmsgErr := w.gather(w.oob[:oobn], flags); err == nil {
			err = cmsgErr
		}
		switch {
		case errors.Is(err, io.EOF) && first && got == 0:
			return io.EOF
		case errors.Is(err, io.EOF):
			return fmt.Errorf("vhost-user: connection ended inside a message: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return err
		}
		if first && got == 0 {
			if err := w.c.SetReadDeadline(time.Now().Add(w.timeout)); err != nil {
				return err
			}
		}
		got += n
	}
	return nil
}

// gather adds the files in oob to the message. All that the kernel installed
// is added before anything is refused, so that read can close it.
func (w *wire) gather(oob []byte, flags int) error {
	if len(oob) > 0 {
		cmsgs, err := unix.ParseSocketControlMessage(oob)
		if err != nil {
			return &ProtocolError{Err: fmt.Errorf("control message: %w", err)}
		}
		for i := range cmsgs {
			if fds, err := unix.ParseUnixRights(&cmsgs[i]); err == nil {
				w.fds.add(fds)
			}
		}
	}
	if flags&unix.MSG_CTRUNC != 0 || w.fds.Len() > maxFDs {
		return &ProtocolError{Err: fmt.Errorf("more than %d files with one message", maxFDs)}
	}
	return nil
}

// write sends one message in one sendmsg, so that header and files arrive
// together; what the socket did not take at once follows. fds stay the
// caller's.
func (w *wire) write(request, flags uint32, payload []byte, fds ...int) error {
	if len(payload) > maxPayload {
		return &ProtocolError{Request(request), fmt.Errorf("payload of %d bytes: the largest is %d", len(payload), maxPayload)}
	}
	b := order.AppendUint32(w.out[:0], request)
	b = order.AppendUint32(b, flags)
	b = order.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := w.c.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return err
	}
	n, _, err := w.c.WriteMsgUnix(b, oob, nil)
	if err != nil {
		return err
	}
	if n < len(b) {
		_, err = w.c.Write(b[n:])
	}
	return err
}

// unixConn makes a connection of fd, which is its from now on, error or not.
func unixConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "vhost-user")
	defer f.Close() // FileConn makes its own copy
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("file is no socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok || u.LocalAddr().Network() != "unix" {
		c.Close()
		return nil, fmt.Errorf("file is a %s socket, not a Unix stream socket", c.LocalAddr().Network())
	}
	return u, nil
}
