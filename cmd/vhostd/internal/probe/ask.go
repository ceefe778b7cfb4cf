package probe

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost"
)

// Flags of a message's header (vhost-user, "Header").
const (
	flagVersion   = 0x1
	flagReply     = 0x4
	flagNeedReply = 0x8
)

// due is the answer that a request has.
type due int

const (
	reply due = iota // one of its own, always
	ack              // a number, 0 if all is well, where REPLY_ACK was agreed on
	none
)

// most is how many connections one probe may cost a back-end.
const most = 8

// prober is a conversation that goes on over the connections it takes.
type prober struct {
	open    func(context.Context) (*vhost.Conn, error)
	ctx     context.Context
	c       *vhost.Conn // nil: it has ended
	release func() bool // of what closes c with ctx
	report  *Report
	agreed  protocol // protocol features in force on c
	greet   func()   // what a new connection needs before it can be asked
	opened  int
	gone    error // why no connection can be made any more
}

// connect makes a connection unless there is one, and says again on it what was
// agreed on before. When it fails it is not tried again.
func (p *prober) connect() error {
	if p.c != nil || p.gone != nil {
		return p.gone
	}
	if p.opened == most {
		p.gone = fmt.Errorf("it hung up on %d connections", most)
		return p.gone
	}
	c, err := p.open(p.ctx)
	if err != nil {
		p.gone = err
		return err
	}
	p.opened++
	p.c, p.release = c, context.AfterFunc(p.ctx, func() { c.Close() })
	if p.greet != nil {
		p.greet()
	}
	if p.c == nil {
		p.gone = errors.New("it hung up on what it had taken before")
	}
	return p.gone
}

// hangUp ends the connection. What the back-end agreed on ends with it.
func (p *prober) hangUp() {
	if p.c != nil {
		p.release()
		p.c.Close()
	}
	p.c, p.agreed = nil, 0
}

// ask sends a message, notes how it was answered, and gives the answer's payload;
// ok: there is one, or none was due and the back-end is still there. Files that
// came with it are closed, a probe has no use for them.
func (p *prober) ask(r vhost.Request, d due, payload encoding.BinaryAppender, sent string, fds ...int) (answer []byte, ok bool) {
	if p.connect() != nil {
		return nil, false // Run says so
	}
	m := Message{Request: r.String(), Sent: sent}
	start := time.Now()
	answer = p.exchange(r, d, payload, &m, fds...)
	m.Took = time.Since(start)
	p.report.Messages = append(p.report.Messages, m)
	return answer, m.Answer == Replied || m.Answer == Acknowledged || m.Answer == Taken
}

// exchange is ask without the book-keeping.
func (p *prober) exchange(r vhost.Request, d due, payload encoding.BinaryAppender, m *Message, fds ...int) []byte {
	var b []byte
	if payload != nil {
		var err error
		if b, err = payload.AppendBinary(nil); err != nil {
			m.Answer, m.Detail = Wrong, err.Error()
			return nil
		}
	}
	flags := uint32(flagVersion)
	if d == ack && p.agreed.Has(vhost.ProtocolReplyAck) {
		flags |= flagNeedReply
	}
	if err := p.c.Send(r, flags, b, fds...); err != nil {
		p.lost(m, err)
		return nil
	}
	if d != reply && flags&flagNeedReply == 0 {
		// Whether it was taken shows in that a question is still answered.
		if err := p.c.Send(vhost.GetFeatures, flagVersion, nil); err != nil {
			p.lost(m, err)
		} else if p.receive(vhost.GetFeatures, m) != nil {
			m.Answer = Taken
		}
		return nil
	}
	answer := p.receive(r, m)
	if d == ack && answer != nil {
		m.Answer = Acknowledged
		var code vhost.U64
		if err := code.UnmarshalBinary(answer); err != nil {
			m.Answer, m.Detail = Wrong, err.Error()
		} else if code != 0 {
			m.Answer, m.Detail = Refused, fmt.Sprintf("code %d", uint64(code))
		}
	}
	return answer
}

// receive reads the answer to r; nil: there was none that can be used. Flags that
// are wrong are noted, and the answer is taken all the same.
func (p *prober) receive(r vhost.Request, m *Message) []byte {
	got, flags, payload, fds, err := p.c.Receive()
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	switch {
	case err != nil:
		p.lost(m, err)
		return nil
	case got != r:
		m.Answer, m.Detail = Wrong, fmt.Sprintf("answered by %v", got)
		p.hangUp()
		return nil
	case flags != flagVersion|flagReply:
		m.flags, m.Detail = true, fmt.Sprintf("flags %#x", flags)
	}
	m.Answer = Replied
	if payload == nil {
		payload = []byte{}
	}
	return payload
}

// lost notes why there is no connection any more.
func (p *prober) lost(m *Message, err error) {
	switch wrong := (*vhost.ProtocolError)(nil); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		m.Answer = Silent
	case errors.As(err, &wrong):
		m.Answer, m.Detail = Wrong, wrong.Err.Error()
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		m.Answer = HungUp
	default:
		m.Answer, m.Detail = HungUp, err.Error()
	}
	p.hangUp()
}

// number asks for a number, and notes it in that format.
func (p *prober) number(r vhost.Request, format string) *uint64 {
	b, ok := p.ask(r, reply, nil, "")
	if !ok {
		return nil
	}
	var u vhost.U64
	m := &p.report.Messages[len(p.report.Messages)-1]
	if err := u.UnmarshalBinary(b); err != nil {
		m.Answer, m.Detail = Wrong, err.Error()
		return nil
	}
	n := uint64(u)
	m.note(fmt.Sprintf(format, n))
	return &n
}

// note says what an answer was, before what was wrong about it.
func (m *Message) note(s string) {
	if m.Detail != "" {
		s += ", " + m.Detail
	}
	m.Detail = s
}
