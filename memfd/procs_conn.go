package memfd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What one message may have.
const (
	maxMessage = 32 << 10 // bytes
	maxFiles   = 64
	maxSpaces  = 64
	maxRuns    = 896
	maxRunning = 1 << 16 // extents in all runs of a message
	maxText    = 1 << 10 // bytes of an error or an advice
)

// conn moves messages between a primary and a secondary, over a socket that
// keeps their borders: what comes with a message can be only its own. One
// goroutine may read while others write.
type conn struct {
	c    *net.UnixConn
	in   []byte
	oob  []byte // nil: files are not taken
	wmu  sync.Mutex
	out  []byte
	over bool // nothing is sent any more; guarded by wmu
}

func newConn(c *net.UnixConn, files bool) *conn {
	n := &conn{c: c, in: make([]byte, maxMessage)}
	if files {
		n.oob = make([]byte, unix.CmsgSpace(4*maxFiles))
	}
	return n
}

// message is what came. The body is good until the next read; files are the
// reader's to close.
type message struct {
	verb  verb
	seq   uint32
	body  decoder
	files []int
}

// dismiss closes the files that came.
func (m *message) dismiss() {
	for _, fd := range m.files {
		_ = unix.Close(fd) // the number is gone whatever close says
	}
	m.files = nil
}

// read waits for a message until t, or for ever. The error is io.EOF at the end,
// and a *wireError for what must not be sent.
func (n *conn) read(t time.Time) (m message, err error) {
	if err := n.c.SetReadDeadline(t); err != nil {
		return m, err
	}
	size, oobn, flags, _, err := n.c.ReadMsgUnix(n.in, n.oob)
	if oobn > 0 {
		cmsgs, bad := unix.ParseSocketControlMessage(n.oob[:oobn])
		for i := range cmsgs {
			if fds, e := unix.ParseUnixRights(&cmsgs[i]); e == nil {
				m.files = append(m.files, fds...)
			}
		}
		err = errors.Join(err, bad)
	}
	if err == nil {
		err = n.open(&m, size, flags)
	}
	if err != nil {
		m.dismiss()
		return message{}, err
	}
	return m, nil
}

// open reads the header.
func (n *conn) open(m *message, size, flags int) error {
	switch {
	case flags&unix.MSG_TRUNC != 0:
		return &wireError{fmt.Sprintf("a message of more than %d bytes", maxMessage)}
	case flags&unix.MSG_CTRUNC != 0 || len(m.files) > maxFiles:
		return &wireError{"a message with more files than it may have"}
	}
	return m.parse(n.in[:size])
}

// write sends one message, before t. If it cannot be sent nothing can any more.
func (n *conn) write(t time.Time, v verb, seq uint32, body func(*encoder), files ...int) error {
	n.wmu.Lock()
	defer n.wmu.Unlock()
	if n.over {
		return io.ErrClosedPipe
	}
	e := encoder{n.out[:0]}
	e.head(v, seq)
	if body != nil {
		body(&e)
	}
	n.out = e.b
	var oob []byte
	if len(files) > 0 {
		oob = unix.UnixRights(files...)
	}
	err := n.c.SetWriteDeadline(t)
	if err == nil {
		_, _, err = n.c.WriteMsgUnix(e.b, oob, nil)
	}
	n.over = err != nil
	return err
}

// hush sends nothing any more, which the other side sees as the end, and still
// hears what it says.
func (n *conn) hush() {
	_ = n.c.SetWriteDeadline(time.Unix(1, 0)) // whoever writes now is late
	n.wmu.Lock()
	defer n.wmu.Unlock()
	n.over = true
	_ = n.c.CloseWrite()
}

// refuse says why there will be no more, and ends the connection.
func (n *conn) refuse(d time.Duration, why error) {
	_ = n.write(time.Now().Add(d), sayRefused, 0, func(e *encoder) { encodeError(e, why) })
	n.close()
}

// close ends the connection in both directions, and who reads.
func (n *conn) close() { _ = n.c.Close() }
