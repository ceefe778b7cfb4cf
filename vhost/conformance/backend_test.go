package conformance

import (
	"context"
	"flag"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/vhostd/vhostd/vhost"
)

// patience bounds every wait; what takes longer fails the test.
var patience = flag.Duration("patience", 10*time.Second, "how long a test waits for what must happen")

// backend is a server of one device, listening on a socket.
type backend struct {
	t        testing.TB
	path     string
	server   *vhost.Server
	listener *net.UnixListener
	sessions chan *vhost.Session // each that began
	ended    chan error          // why each ended, when all of it was given back; nil: the peer left
}

// listen serves dev until the test ends.
func listen(t testing.TB, dev vhost.Device) *backend {
	t.Helper()
	b := prepare(t, dev)
	b.serve()
	return b
}

// prepare makes the socket: who connects is not heard yet.
func prepare(t testing.TB, dev vhost.Device) *backend {
	t.Helper()
	b := &backend{t: t, path: t.TempDir() + "/s", sessions: make(chan *vhost.Session, 4096), ended: make(chan error, 4096)}
	log := slog.New(slog.NewTextHandler(t.Output(), nil)) // shown when the test fails
	// It gives up later than a test does: what waits for it in vain fails.
	b.server = &vhost.Server{Device: dev, Log: log, Timeout: 2 * *patience, Hooks: vhost.Hooks{
		Connected:    func(s *vhost.Session) { b.sessions <- s },
		Disconnected: func(_ *vhost.Session, err error) { b.ended <- err },
	}}
	var err error
	b.listener, err = vhost.Listen(b.path, vhost.ListenOptions{UID: -1, GID: -1})
	must(t, err)
	return b
}

// serve serves whoever has connected and whoever will, until the test ends.
func (b *backend) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { _ = b.server.Serve(ctx, b.listener) })
	b.t.Cleanup(func() {
		cancel()
		within(b.t, "the server's end", serving.Wait)
	})
}

// end waits until a session has ended and gives why.
func (b *backend) end() error {
	b.t.Helper()
	return receive(b.t, "the end of a session", b.ended)
}

// dial connects and says nothing.
func (b *backend) dial() *front {
	b.t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: b.path, Net: "unix"})
	must(b.t, err)
	b.t.Cleanup(func() { c.Close() })
	return &front{Conn: vhost.NewConn(c, *patience), sock: c, t: b.t, b: b}
}
