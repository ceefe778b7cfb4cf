package peers

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost"
)

// Message is one that a front-end sent, as it was.
type Message struct {
	Request vhost.Request
	Payload []byte
	Files   int
}

// Tap stands between a front-end and a back-end, hands everything on, files
// too, and remembers what the front-end said.
type Tap struct {
	t  testing.TB
	l  *net.UnixListener
	to string
	wg sync.WaitGroup

	mu       sync.Mutex
	messages []Message
	ends     []io.Closer
	closed   bool
}

// StartTap listens on path for front-ends and dials the back-end at to for each.
func StartTap(t testing.TB, path, to string) *Tap {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	p := &Tap{t: t, l: l, to: to, ends: []io.Closer{l}}
	p.wg.Go(p.accept)
	t.Cleanup(p.Close)
	return p
}

// Close ends all connections.
func (p *Tap) Close() {
	p.mu.Lock()
	p.closed = true
	for _, c := range p.ends {
		c.Close()
	}
	p.ends = nil
	p.mu.Unlock()
	p.wg.Wait()
}

// Messages are all so far.
func (p *Tap) Messages() []Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.messages)
}

func (p *Tap) accept() {
	for {
		front, err := p.l.AcceptUnix()
		if err != nil {
			return // closed
		}
		back, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: p.to, Net: "unix"})
		if err != nil {
			front.Close()
			continue
		}
		if !p.keep(front, back) {
			return
		}
		p.wg.Go(func() { p.requests(front, back) })
		p.wg.Go(func() { p.replies(front, back) })
	}
}

// keep has Close end connections; false: it has been called.
func (p *Tap) keep(c ...*net.UnixConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range c {
		if p.closed {
			c.Close()
		} else {
			p.ends = append(p.ends, c)
		}
	}
	return !p.closed
}

// requests hands on what the front-end says.
func (p *Tap) requests(front, back *net.UnixConn) {
	defer back.CloseWrite()
	from, to := vhost.NewConn(front, time.Hour), vhost.NewConn(back, patience)
	for {
		r, flags, payload, files, err := from.Receive()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.messages = append(p.messages, Message{r, payload, len(files)})
		p.mu.Unlock()
		err = to.Send(r, flags, payload, files...)
		for _, fd := range files {
			unix.Close(fd)
		}
		if err != nil {
			return
		}
	}
}

// replies hands on what the back-end says. Files are none among it, but for the
// record of what is in flight.
func (p *Tap) replies(front, back *net.UnixConn) {
	defer front.Close()
	data, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	for {
		n, k, _, _, err := back.ReadMsgUnix(data, oob)
		if n == 0 || err != nil && !errors.Is(err, io.EOF) {
			return
		}
		_, _, err = front.WriteMsgUnix(data[:n], oob[:k], nil)
		closeRights(oob[:k])
		if err != nil {
			return
		}
	}
}

// closeRights closes files that were handed on.
func closeRights(oob []byte) {
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, m := range all {
		fds, _ := unix.ParseUnixRights(&m)
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}
