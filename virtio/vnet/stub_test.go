package vnet_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// stub is a transport to a device that does nothing: it knows what it was given,
// tells what the test has it tell, and fails where the test wants it to.
type stub struct {
	features virtio.Features
	events   chan virtio.TransportEvent

	mu        sync.Mutex
	connected map[int]*stubLine
	places    map[int]virtio.Placement
	fail      func(ctx context.Context, op string) error // nil: nothing fails
}

func newStub(f virtio.Features) *stub {
	return &stub{features: f | virtio.FeatureVersion1, events: make(chan virtio.TransportEvent), connected: make(map[int]*stubLine), places: make(map[int]virtio.Placement)}
}

// failing has operations end with what fail says.
func (s *stub) failing(fail func(ctx context.Context, op string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

// do is every operation: it fails or it is done, one at a time.
func (s *stub) do(ctx context.Context, op string, done func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(ctx, op); err != nil {
			return err
		}
	}
	done()
	return nil
}

// lose takes the device away.
func (s *stub) lose() {
	s.mu.Lock()
	s.drop()
	s.mu.Unlock()
	s.events <- virtio.TransportEvent{Kind: virtio.Lost, Err: errTest}
}

// placed tells where ring i is.
func (s *stub) placed(i int) virtio.Placement {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.places[i]
}

func (s *stub) drop() {
	for i, l := range s.connected {
		close(l.gone)
		delete(s.connected, i)
	}
}

func (s *stub) Features() virtio.Features { return s.features }
func (s *stub) Queues() int               { return 4 }
func (s *stub) QueueMax(int) uint16       { return 1024 }

func (s *stub) Accept(ctx context.Context, _ virtio.Features) error {
	return s.do(ctx, "accept", func() {})
}

func (s *stub) Connect(ctx context.Context, i int, p virtio.Placement) (virtio.Line, error) {
	l := &stubLine{gone: make(chan struct{})}
	err := s.do(ctx, "connect", func() { s.connected[i], s.places[i] = l, p })
	return l, err
}

func (s *stub) Enable(ctx context.Context, _ int, on bool) error {
	if on {
		return s.do(ctx, "enable", func() {})
	}
	return s.do(ctx, "disable", func() {})
}

func (s *stub) Start(ctx context.Context) error { return s.do(ctx, "start", func() {}) }

func (s *stub) Disconnect(ctx context.Context, i int) (virtio.Position, error) {
	return 0, s.do(ctx, "disconnect", func() {
		if l := s.connected[i]; l != nil {
			close(l.gone)
			delete(s.connected, i)
		}
	})
}

func (s *stub) Reset(ctx context.Context) error { return s.do(ctx, "reset", s.drop) }

func (s *stub) ReadConfig(context.Context, int, []byte) error  { return errTest }
func (s *stub) WriteConfig(context.Context, int, []byte) error { return errTest }
func (s *stub) Events() <-chan virtio.TransportEvent           { return s.events }
func (s *stub) Close() error                                   { return nil }

// stubLine is a ring's line: nobody calls.
type stubLine struct{ gone chan struct{} }

func (*stubLine) Ring() {}

func (l *stubLine) Wait(ctx context.Context) error {
	select {
	case <-l.gone:
		return errTest
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stubbed makes a rig's driver drive a stub.
func stubbed(t *testing.T, s *stub, o rigOptions) *rig {
	t.Helper()
	o.driver = chain(o.driver, func(c *vnet.DriverConfig) { c.Transport = s })
	return newRig(t, o)
}

// chain does both, where there are both.
func chain(first, then func(*vnet.DriverConfig)) func(*vnet.DriverConfig) {
	return func(c *vnet.DriverConfig) {
		if first != nil {
			first(c)
		}
		then(c)
	}
}

// once fails op one time.
func once(op string) func(context.Context, string) error {
	done := false
	return func(_ context.Context, now string) error {
		if now != op || done {
			return nil
		}
		done = true
		return errTest
	}
}

// cuttable is an allocator of memory in one file, and cuts that off.
type cuttable struct {
	t    *testing.T
	fd   int
	at   uint64
	all  memtable.Buf
	lent int
}

const cuttableBytes = 1 << 20

func newCuttable(t *testing.T) *cuttable {
	t.Helper()
	fd, err := unix.MemfdCreate("rings", unix.MFD_CLOEXEC)
	if err != nil {
		t.Skipf("no memfd: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	c := &cuttable{t: t, fd: fd}
	c.cut(cuttableBytes)
	m, err := memtable.MapFile(fd, 0, cuttableBytes, memtable.MapOptions{})
	ok(t, err)
	t.Cleanup(func() { m.Close() })
	c.all = memtable.Buf{VA: m.VA(), Addr: 0x7000_0000}
	return c
}

// cut leaves n bytes of the file, or makes it as long again.
func (c *cuttable) cut(n int64) { ok(c.t, unix.Ftruncate(c.fd, n)) }

func (c *cuttable) AllocZero(_ context.Context, n, _ uint64) (memtable.Buf, error) {
	b := memtable.Buf{VA: c.all.VA.Add(c.at), Addr: c.all.Addr + memtable.IOVA(c.at), Cap: uint32(n)}
	if c.at += (n + 4095) &^ 4095; c.at > cuttableBytes {
		return memtable.Buf{}, errors.New("the file is too short")
	}
	c.lent++
	return b, nil
}

func (c *cuttable) Free(memtable.Buf) error {
	c.lent--
	return nil
}
