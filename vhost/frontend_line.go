package vhost

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ErrDisconnected is why a wait for a ring's call ends when the ring was taken
// back.
var ErrDisconnected = errors.New("the ring is not connected any more")

// line is how a ring and its back-end call each other: a kick file that we
// write to and a call file that we wait on, both made here and shared, so both
// are handled as if they were the peer's. A line lives as long as the ring is
// connected; each connection of a ring has new files, and what an old back-end
// still signals reaches nobody.
type line struct {
	kick           *doorbell
	calls          *waiter
	watch          *watch
	kickFD, callFD int // of kick and calls
	errFD          int
	waits          atomic.Uint64
	why            atomic.Pointer[error]

	mu       sync.Mutex
	done     <-chan struct{} // of the context that Wait was last called with
	unfollow func() bool     // ends that its end wakes calls; nil: it does not
}

// newLine makes the files of ring i.
func (l *peerLink) newLine(i int) (_ *line, err error) {
	n := &line{kick: newDoorbell(l.bells), watch: l.watch, kickFD: -1, callFD: -1, errFD: -1}
	defer func() {
		if err != nil {
			n.close(err)
		}
	}()
	if n.calls, err = newWaiter(); err != nil {
		return nil, err
	}
	if n.kickFD, err = newEventfd(); err != nil {
		return nil, err
	}
	if err = n.kick.Set(n.kickFD); err != nil {
		return nil, err
	}
	if n.callFD, err = newEventfd(); err != nil {
		return nil, err
	}
	// The first Wait returns at once: what a back-end before this one completed
	// may have been told to a file that is gone.
	if err = n.calls.Set(n.callFD, false); err != nil {
		return nil, err
	}
	if n.errFD, err = newEventfd(); err != nil {
		return nil, err
	}
	return n, l.watch.add(n.errFD, unix.EPOLLIN, watchErr+i)
}

// Ring implements [virtio.Doorbell]. It never blocks.
func (n *line) Ring() { n.kick.Ring() }

// Wait implements [virtio.Line]. It may return though nothing was used.
func (n *line) Wait(ctx context.Context) error {
	n.follow(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx) // what its end wakes was perhaps woken before
	}
	n.waits.Add(1)
	open := n.calls.Wait(false)
	switch {
	case !open:
		n.follow(context.Background())
		if why := n.why.Load(); why != nil {
			return *why
		}
		return ErrDisconnected
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return nil
}

// follow has the end of ctx wake calls from now on. A worker waits thousands of
// times a second, and always with one context: it is followed once.
func (n *line) follow(ctx context.Context) {
	done := ctx.Done()
	n.mu.Lock()
	defer n.mu.Unlock()
	if done == n.done {
		return
	}
	if n.unfollow != nil {
		n.unfollow()
	}
	n.done, n.unfollow = done, nil
	if done != nil {
		n.unfollow = context.AfterFunc(ctx, n.calls.Wake)
	}
}

// close ends every Wait with why, and gives the files back.
func (n *line) close(why error) {
	n.why.CompareAndSwap(nil, &why)
	n.follow(context.Background())
	if n.calls != nil {
		_ = n.calls.Close()
	}
	_ = n.kick.Close() // its file is ours: a write that hangs was freed
	if n.errFD >= 0 {
		n.watch.remove(n.errFD)
		closeFD(n.errFD)
		n.errFD = -1
	}
}
