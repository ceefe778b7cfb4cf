package vhost

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/virtio"
)

// filler is a device whose rings fill what they are given with 0xaa.
type filler struct {
	spec   Spec
	serve  func(*virtio.Queue) error // nil: fill
	opened chan *Session
	closed chan struct{}
}

func newFiller(spec Spec) *filler {
	return &filler{spec: spec, opened: make(chan *Session, 100), closed: make(chan struct{}, 100)}
}

func (f *filler) Spec() Spec { return f.spec }

func (f *filler) Open(s *Session) (Handler, error) {
	f.opened <- s
	return fillerHandler{f}, nil
}

type fillerHandler struct{ *filler }

func (h fillerHandler) Serve(q *virtio.Queue) error {
	if h.serve != nil {
		return h.serve(q)
	}
	for c := range q.Chains() {
		n, _ := c.Write(bytes.Repeat([]byte{0xaa}, 64))
		c.Done(n)
	}
	return nil
}

func (h fillerHandler) Close() error { h.closed <- struct{}{}; return nil }

var twoRings = Spec{ID: virtio.Entropy, Queues: 2, QueueMax: 256}

// mapped counts the mappings of guest memory in this process.
func mapped(t testing.TB) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip("needs /proc: ", err)
	}
	return strings.Count(string(maps), "memfd:test-guest")
}

// wakePoller has the runtime's poller open its own files, which stay from its
// first use on.
func wakePoller(t testing.TB) {
	t.Helper()
	r, w, err := os.Pipe()
	ok(t, err)
	r.Close()
	w.Close()
}

// noLeaks fails the test when it leaves files, goroutines or mappings behind.
func noLeaks(t *testing.T) {
	t.Helper()
	wakePoller(t)
	here, files, maps := goleak.IgnoreCurrent(), openFiles(t), mapped(t)
	t.Cleanup(func() {
		eventually(t, "files and mappings are given back", func() bool { return openFiles(t) == files && mapped(t) == maps })
		goleak.VerifyNone(t, here)
	})
}

// serve serves one connection until the test ends and gives the front-end's
// end. ended gets what ServeConn returned.
func serve(t *testing.T, s *Server) (c *Conn, ended <-chan error) {
	t.Helper()
	w, back := pair(t, testTimeout)
	done := make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() { done <- s.ServeConn(t.Context(), back) })
	t.Cleanup(func() {
		w.c.Close()
		within(t, "the session's end", running.Wait)
	})
	return NewConn(w.c, testTimeout), done
}

// dialogue is a front-end that has agreed on everything but stopped rings.
func dialogue(t *testing.T, s *Server) (*Conn, <-chan error) {
	t.Helper()
	c, ended := serve(t, s)
	ok(t, c.SetOwner())
	agree(t, c)
	return c, ended
}

// agree takes all that is offered, but not LOG_ALL.
func agree(t *testing.T, c *Conn) {
	t.Helper()
	f, err := c.GetFeatures()
	ok(t, err)
	p, err := c.GetProtocolFeatures()
	ok(t, err)
	ok(t, c.SetProtocolFeatures(p))
	ok(t, c.SetFeatures(f&(virtio.FeatureProtocol|virtio.FeatureVersion1)))
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refusedBy fails unless err is a refusal, after which c still answers.
func refusedBy(t testing.TB, c *Conn, err error) {
	t.Helper()
	if _, is := errors.AsType[*RefusedError](err); !is {
		t.Fatalf("not refused: %v", err)
	}
	_, err = c.GetFeatures()
	ok(t, err)
}

// lives fails unless c answers.
func lives(t testing.TB, c *Conn) {
	t.Helper()
	if _, err := c.GetFeatures(); err != nil {
		t.Fatalf("the connection has ended: %v", err)
	}
}

// dies fails unless the session ends.
func dies(t testing.TB, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(testTimeout):
		t.Fatal("the connection lives")
		return nil
	}
}

// listenAndServe serves s on a socket until the test ends.
func listenAndServe(t *testing.T, s *Server) (path string) {
	t.Helper()
	path = t.TempDir() + "/s"
	l, err := Listen(path, ListenOptions{UID: -1, GID: -1})
	ok(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Serve(ctx, l) })
	t.Cleanup(func() {
		cancel()
		within(t, "the server's end", running.Wait)
	})
	return path
}

func dial(t *testing.T, path string) *Conn {
	t.Helper()
	c, err := DialConn(t.Context(), path, testTimeout)
	ok(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// closedBy fails unless the back-end closes c.
func closedBy(t testing.TB, c *Conn) {
	t.Helper()
	_, _, _, _, err := c.Receive()
	if !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		t.Fatalf("the connection was not closed: %v", err)
	}
}
