package memfd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Inspector answers who wants to look at the arenas of this process.
type Inspector struct {
	l     *net.UnixListener
	turns sync.WaitGroup

	// mu is held while the arenas are looked at: one at a time.
	mu sync.Mutex
}

// Bounds on what a client can make us hold. Who may open the socket is trusted
// to look, not to stay.
const (
	maxClients    = 4
	answerTimeout = 10 * time.Second
	probeTimeout  = 2 * time.Second
)

// ServeInspect makes a unix socket at path, mode 0600, and writes an Inspection
// as JSON to everybody who connects, until Close. The arenas go on meanwhile. A
// socket that a dead process left is replaced; any other file is an error.
func ServeInspect(path string) (*Inspector, error) {
	if err := clearSocket(path); err != nil {
		return nil, fmt.Errorf("memfd: socket %s: %w", path, err)
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// A socket's file gets the mode that the socket had when it was
		// bound, so there is no moment at which others may connect.
		var err error
		if fail := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); fail != nil {
			return fail
		}
		return os.NewSyscallError("fchmod", err)
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("memfd: socket %s: %w", path, err)
	}
	i := &Inspector{l: l.(*net.UnixListener)}
	i.turns.Go(i.serve)
	return i, nil
}

// clearSocket removes the socket of a process that is gone.
func clearSocket(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("a file that is no socket is in the way: remove it, or use another path")
	}
	c, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		c.Close()
		return errors.New("a running process listens there: use another path")
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// Path is where the socket is.
func (i *Inspector) Path() string { return i.l.Addr().String() }

// Close removes the socket and waits for the answers that are on their way.
func (i *Inspector) Close() error {
	err := i.l.Close()
	i.turns.Wait()
	return err
}

// serve answers until the listener is closed.
func (i *Inspector) serve() {
	room := make(chan struct{}, maxClients)
	for {
		room <- struct{}{} // who comes too many waits in the kernel's queue
		c, err := i.l.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no descriptors, for now
			time.Sleep(100 * time.Millisecond)
			<-room
			continue
		}
		i.turns.Go(func() {
			defer func() { <-room }()
			defer c.Close()
			i.answer(c)
		})
	}
}

// answer writes one inspection. Whoever does not read it in time gets the rest
// no more, and there is nobody to be told.
func (i *Inspector) answer(c *net.UnixConn) {
	i.mu.Lock()
	text, err := json.Marshal(inspect())
	i.mu.Unlock()
	if err != nil {
		panic(err) // the types cannot be JSON
	}
	_ = c.SetWriteDeadline(time.Now().Add(answerTimeout))
	_, _ = c.Write(append(text, '\n'))
}
