package vhost

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// play is one schedule while it is played.
type play struct {
	t      *testing.T
	w      *world
	m      *model
	d      *fuzzDevice
	in     tape
	server *Server
	turns  *stepper // nil: goroutines serve the rings
	jammed bool

	files, maps, routines int // before

	wire  *wire
	alive bool  // as far as is known
	doubt error // what is wrong unless the connection ended just now
	ended chan error
	conns int
}

func newPlay(t *testing.T, w *world, script []byte) *play {
	memtable.Faults() // of this goroutine, which serves the rings
	p := &play{t: t, w: w, in: script, files: openFiles(t), maps: mapped(t), routines: runtime.NumGoroutine()}
	kind := p.in.byte()
	p.d = &fuzzDevice{net: kind&1 != 0}
	p.server = &Server{Device: p.d, Timeout: testTimeout}
	if p.d.net {
		p.server.Device = netOnly{p.d}
	}
	if kind&14 != 14 {
		p.turns = newStepper()
		p.server.Runner = p.turns
	}
	p.connect()
	return p
}

// connect begins a session.
func (p *play) connect() {
	front, back := pair(p.t, testTimeout)
	p.m = &model{w: p.w, net: p.d.net, tainted: p.turns == nil}
	p.d.m = p.m
	if p.turns == nil {
		p.d.m = nil
	}
	p.wire, p.alive, p.ended, p.doubt = front, true, make(chan error, 1), nil
	p.conns++
	ended := p.ended
	go func() { ended <- p.server.ServeConn(context.Background(), back) }()
	p.sync() // now the session is there
}

// hangUp ends the connection and waits until all of it was given back.
func (p *play) hangUp() {
	if p.alive {
		p.check(p.wire.c.CloseWrite())
		if m, err := p.wire.readBefore(time.Now().Add(testTimeout)); err == nil {
			p.t.Fatalf("message %d came that nobody asked for", m.Request)
		}
	}
	p.alive = false
	_ = p.wire.c.Close()
	select {
	case <-p.ended:
	case <-time.After(testTimeout):
		p.t.Fatal("the session does not end")
	}
	p.check(p.d.trouble())
	if p.d.opened != p.conns || p.d.closed != p.conns {
		p.t.Fatalf("%d connections, %d handlers opened, %d closed", p.conns, p.d.opened, p.d.closed)
	}
}

// end ends the schedule: the server serves the next front-end, and nothing is
// left of any.
func (p *play) end() {
	p.hangUp()
	p.connect()
	if !p.alive {
		p.t.Fatal("the server does not serve the next front-end")
	}
	p.hangUp()
	p.w.closeSocket()
	if p.turns != nil {
		if len(p.turns.jobs) != 0 {
			p.t.Fatal("a worker has a job of a session that ended")
		}
		p.turns.reader.Close()
	}
	for end := time.Now().Add(testTimeout); !p.clean(); runtime.Gosched() {
		if time.Now().After(end) {
			p.t.Fatalf("%d files, %d mappings, %d goroutines; before there were %d, %d, %d",
				openFiles(p.t), mapped(p.t), runtime.NumGoroutine(), p.files, p.maps, p.routines)
		}
	}
}

func (p *play) clean() bool {
	return runtime.NumGoroutine() <= p.routines && openFiles(p.t) == p.files && mapped(p.t) == p.maps
}

func (p *play) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// say sends a message and follows what comes of it.
func (p *play) say(s *sent) {
	fds := make([]int, len(s.files))
	for i, f := range s.files {
		fds[i] = p.w.fd(f)
	}
	p.exchange(packet(Request(s.request), s.flags, s.payload), fds, s.cut, []*sent{s})
}

// raw sends bytes that may be no messages at all.
func (p *play) raw(b []byte) {
	var all []*sent
	rest := b
	for len(rest) >= headerBytes {
		size := order.Uint32(rest[8:])
		s := &sent{request: order.Uint32(rest), flags: order.Uint32(rest[4:])}
		if s.flags&3 != headerFlagVersion || size > maxPayload || int(size) > len(rest)-headerBytes {
			break
		}
		s.payload, rest = rest[headerBytes:headerBytes+size], rest[headerBytes+size:]
		all = append(all, s)
	}
	if len(rest) > 0 {
		all = append(all, &sent{}) // no message: the stream is out of step
	}
	p.exchange(b, nil, 0, all)
}

// sync waits until the back-end has done all that it was told.
func (p *play) sync() { p.exchange(nil, nil, 0, nil) }

// exchange sends b, which holds the messages of all, and a request whose answer
// says that they are done.
func (p *play) exchange(b []byte, fds []int, cut int, all []*sent) {
	if !p.alive {
		return
	}
	last := &sent{request: uint32(GetFeatures), flags: headerFlagVersion}
	outOfStep := len(all) > 0 && all[len(all)-1].flags == 0
	if !outOfStep {
		b = append(b, packet(GetFeatures, last.flags, nil)...)
	}
	err := p.write(b, fds, cut)
	if err == nil && outOfStep {
		err = p.wire.c.CloseWrite() // nothing can follow
	}
	if err != nil {
		p.lost(err, all, slices.ContainsFunc(all, p.m.mayEnd))
		return
	}
	excused := false
	for _, s := range append(all[:len(all):len(all)], last) {
		excused = excused || p.m.mayEnd(s)
		if !p.m.due(s) {
			// It was accepted, or it ends the connection.
			if err := p.m.accepted(s); p.doubt == nil {
				p.doubt = err
			}
			p.m.settle()
			continue
		}
		m, err := p.wire.readBefore(time.Now().Add(testTimeout))
		if err != nil {
			p.lost(err, all, excused)
			return
		}
		p.check(p.doubt)
		p.check(p.m.answered(s, &sent{request: m.Request, flags: m.Flags, payload: m.Payload}))
		p.m.settle()
		if n := m.fds.Len(); n > 0 {
			p.t.Fatalf("%v was answered with %d files", Request(s.request), n)
		}
	}
	p.check(p.d.trouble())
	if p.turns != nil {
		p.check(p.w.verify(nil)) // no message writes to memory
	}
}

// write sends b, in two pieces if cut says so. Files go with the first.
func (p *play) write(b []byte, fds []int, cut int) error {
	if cut == 0 || cut >= len(b) {
		cut = len(b)
	}
	if _, _, err := p.wire.c.WriteMsgUnix(b[:cut], unix.UnixRights(fds...), nil); err != nil || cut == len(b) {
		return err
	}
	_, err := p.wire.c.Write(b[cut:])
	return err
}

// lost is the end of the connection, after the messages of all. They are
// excused for it, or the driver's memory is.
func (p *play) lost(err error, all []*sent, excused bool) {
	p.alive = false
	if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		p.t.Fatalf("the back-end neither answers nor ends the connection: %v", err)
	}
	if excused || p.w.shrunk {
		return
	}
	why := <-p.ended
	p.ended <- why // for hangUp
	if errors.Is(why, errShortLog) && p.m.log.to != 0 {
		return // a guest address may lie past any log
	}
	var said []string
	for _, s := range all {
		said = append(said, Request(s.request).String())
	}
	p.t.Fatalf("the connection ended (%v) without a reason: after %s", why, strings.Join(said, ", "))
}

// turn lets the device work, and holds what it did against what it might do.
func (p *play) turn() {
	if p.turns == nil || !p.alive {
		return
	}
	p.m.before()
	p.d.allowed = p.m.allowed()
	p.check(p.turns.turn())
	p.check(p.d.trouble())
	p.check(p.m.dirty())
	p.check(p.m.after())
	p.check(p.w.verify(p.d.allowed))
	p.paid()
	p.sync() // if its memory was gone, so is the connection
}

// kick tells the device to look at ring i.
func (p *play) kick(i int) {
	r := &p.m.rings[i]
	switch {
	case r.kick < 0:
		r.owed = true // by the clock
	case !p.w.jammed[r.kick]:
		p.w.kick(r.kick)
		r.owed = true
	}
}

// paid fails the schedule when a ring was to be looked at and was not: what is
// available comes back.
func (p *play) paid() {
	for i := range p.m.rings {
		r := &p.m.rings[i]
		_, avail, _, placed := p.m.placed(r)
		if !r.owed || !placed || r.suspect || p.m.tainted || p.w.shrunk {
			continue
		}
		if p.m.net && i%2 == 0 || !p.m.net && !r.enabled {
			continue // others look at it, or nobody may
		}
		r.owed = false
		if idx := p.w.u16(avail.file, avail.from+2); idx != r.next {
			p.t.Fatalf("ring %d was to be served up to %d, and is at %d", i, idx, r.next)
		}
	}
}
