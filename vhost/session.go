package vhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Session is one connection of a front-end to a device. Its methods may be
// called from any goroutine.
//
// One goroutine reads messages and does what they say. It holds mu while it
// does, and lets go of it while it waits or calls the handler.
type Session struct {
	id      uint64
	peer    string
	name    string // of the device and the peer, for people
	since   time.Time
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timeout time.Duration
	wire    *wire
	quiet   *quiet
	runner  Runner
	spec    Spec
	handler Handler
	can     abilities
	rings   []*vring // as many as the device has, for the session's life

	offered         virtio.Features
	offeredProtocol ProtocolFeatures
	features        atomic.Uint64 // SET_FEATURES

	mapped sync.RWMutex // held for reading by who looks into mappings without a section

	mu            sync.Mutex // guards what follows, and the rings
	protocol      ProtocolFeatures
	status        uint8
	mtu           uint16
	memory        *memory
	dirty         *memtable.Log
	inflight      *inflight
	condemned     []*memtable.Mapping // taken away, not unmapped yet
	channel       *channel
	configChanged bool // the front-end is to be told
	history       history
}

// abilities are the optional ones of a handler and its device; nil: it has not.
type abilities struct {
	negotiated Negotiator
	watcher    RingWatcher
	net        NetHandler
	resetter   Resetter
	config     Configurer
}

// sessions numbers them.
var sessions atomic.Uint64

// newSession makes a session of c and opens its device.
func (s *Server) newSession(ctx context.Context, cancel context.CancelCauseFunc, c *net.UnixConn) (*Session, error) {
	spec := s.Device.Spec()
	if err := spec.check(); err != nil {
		return nil, err
	}
	empty, err := newMemory(nil)
	if err != nil {
		return nil, err
	}
	t := &Session{
		id: sessions.Add(1), peer: peerOf(c), since: time.Now(),
		ctx: ctx, cancel: cancel, timeout: s.timeout(),
		wire: newWire(c, s.timeout()), quiet: s.quiet(), runner: s.Runner,
		spec: spec, offered: spec.offer(), memory: empty,
	}
	if t.runner == nil {
		t.runner = Events(nil)
	}
	t.name = fmt.Sprintf("session %d (%s)", t.id, t.peer)
	if n, ok := s.Device.(Namer); ok {
		t.name = fmt.Sprintf("%s (%s)", n.Name(), t.peer)
	}
	bells := &bells{hung: t.Fail}
	for i := range spec.Queues {
		shared := spec.Shared != nil && spec.Shared(i)
		t.rings = append(t.rings, newVring(virtio.NewQueue(virtio.QueueOptions{Index: i, Shared: shared}), shared, bells))
	}
	if t.handler, err = s.Device.Open(t); err != nil {
		return nil, fmt.Errorf("the device does not open: %w", err)
	}
	t.can.negotiated, _ = t.handler.(Negotiator)
	t.can.watcher, _ = t.handler.(RingWatcher)
	t.can.net, _ = t.handler.(NetHandler)
	t.can.resetter, _ = t.handler.(Resetter)
	t.can.config, _ = s.Device.(Configurer)
	t.offeredProtocol = t.offerProtocol()
	return t, nil
}

// peerOf tells who is at the other end.
func peerOf(c *net.UnixConn) string {
	raw, err := c.SyscallConn()
	if err != nil {
		return "unknown"
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil || err != nil {
		return "unknown"
	}
	return fmt.Sprintf("pid %d uid %d", cred.Pid, cred.Uid)
}

// Context ends when the session does; its cause says why.
func (s *Session) Context() context.Context { return s.ctx }

// Features are what SET_FEATURES agreed on.
func (s *Session) Features() virtio.Features { return virtio.Features(s.features.Load()) }

// Queue gives ring i of the device. It is the same for the session's life; nil
// if there is no such ring.
func (s *Session) Queue(i int) *virtio.Queue {
	if i < 0 || i >= len(s.rings) {
		return nil
	}
	return s.rings[i].queue
}

// Fail ends the session because of err. It never blocks.
func (s *Session) Fail(err error) { s.cancel(err) }

// Break gives ring i up until the driver resets it, because of err: for who
// finds a ring bad outside of Serve. It never blocks.
func (s *Session) Break(i int, err error) {
	if i >= 0 && i < len(s.rings) {
		s.breakRing(s.rings[i], err)
	}
}

// run serves messages until the connection ends; nil: the peer ended it.
func (s *Session) run() error {
	// Whoever ends the context ends the read that is under way.
	stop := context.AfterFunc(s.ctx, func() { _ = s.wire.c.Close() })
	defer stop()
	for {
		m, err := s.wire.read()
		if err == nil {
			err = s.dispatch(m)
		}
		switch {
		case err == nil:
		case s.ctx.Err() != nil:
			return context.Cause(s.ctx)
		case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
			return nil // it went away, maybe in the middle of a reply
		default:
			return err
		}
	}
}

// unlocked calls f, which may wait or be the handler's, without the lock. Only
// for the session's goroutine, which holds it.
func (s *Session) unlocked(f func()) {
	s.mu.Unlock()
	defer s.mu.Lock()
	f()
}

// log tells the operator something about this session, not too often.
func (s *Session) log(level slog.Level, msg string, args ...any) {
	s.quiet.say(level, msg, append([]any{"session", s.id, "peer", s.peer}, args...)...)
}
