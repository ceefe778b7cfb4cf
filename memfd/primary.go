package memfd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// Primary serves an arena to other processes, the secondaries, which see the
// same memory at the same addresses. All bookkeeping stays here: a secondary
// asks, and one that crashes can hold no lock.
//
// External memory that has a file comes to the secondaries as the arena's own
// does, and leaves by the same rules. Other external memory no other process can
// have, shared or not.
//
// # What a secondary can cost
//
// Memory arrives at all secondaries before it is handed out. One that cannot
// map it refuses, and the growth is undone everywhere. One that does not answer
// within the deadline is given up: nothing is sent to it any more, and the
// growth goes on without it. What it may still have mapped is not used for
// anything else: it is quarantined as it is freed, and reclaimed by itself when
// the secondary is closed or its process has ended. One that died holds nothing.
type Primary struct {
	a *Arena
	o PrimaryOptions
	l *net.UnixListener

	mu     sync.Mutex
	peers  map[*peer]struct{}
	coming int // connections that have not said who they are
	closed bool
	work   sync.WaitGroup
}

// PrimaryOptions says who may attach, and what they may cost.
type PrimaryOptions struct {
	Deadline    time.Duration // for each step of a secondary; 0: 1 s
	Secondaries int           // that may be attached at once; 0: 64
	UIDs        []uint32      // users that may attach, besides root and our own
	Mode        os.FileMode   // of the socket; 0: 0600, or 0666 if there are UIDs
	Heap        HeapOptions   // of the memory that secondaries allocate
	Limit       uint64        // bytes that one secondary may have allocated; 0: as many as the arena has
	Log         *slog.Logger  // nil: nothing is logged
}

const (
	defaultDeadline    = time.Second
	defaultSecondaries = 64
)

func (o PrimaryOptions) fill() PrimaryOptions {
	if o.Deadline <= 0 {
		o.Deadline = defaultDeadline
	}
	if o.Secondaries <= 0 {
		o.Secondaries = defaultSecondaries
	}
	if o.Mode == 0 {
		if o.Mode = 0o600; len(o.UIDs) > 0 {
			o.Mode = 0o666 // who may attach is decided by user, when they do
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// ServeProcesses lets other processes attach to the arena, through a socket that
// it makes at path. A socket there that nobody listens at is replaced.
//
// Secondaries need the addresses of the arena: with Options.Base it lies where
// nothing else is in any process, and without it attaching sometimes fails.
func (a *Arena) ServeProcesses(path string, o PrimaryOptions) (*Primary, error) {
	if err := a.open(); err != nil {
		return nil, err
	}
	o = o.fill()
	l, err := listen(path, o.Mode)
	if err != nil {
		return nil, err
	}
	p := &Primary{a: a, o: o, l: l, peers: make(map[*peer]struct{})}
	p.work.Go(p.accept)
	return p, nil
}

// accept serves who comes, until the listener is closed.
func (p *Primary) accept() {
	for {
		c, err := p.l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Most likely files are short: others may close some.
			p.o.Log.Warn("accepting a secondary", "err", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		n := newConn(c, false)
		if err := p.enter(); err != nil {
			p.o.Log.Warn("a secondary may not attach", "err", err)
			n.refuse(p.o.Deadline, err)
			continue
		}
		p.work.Go(func() { p.serve(n) })
	}
}

// enter counts a connection in, if there may be one more.
func (p *Primary) enter() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.peers) + p.coming; p.closed || n >= p.o.Secondaries {
		return fmt.Errorf("%d secondaries are attached, and there may be no more: set PrimaryOptions.Secondaries to more", n)
	}
	p.coming++
	return nil
}

// known makes a connection that was counted in a secondary; nil: it is none.
func (p *Primary) known(q *peer) {
	p.mu.Lock()
	p.coming--
	closed := p.closed
	if q != nil {
		p.peers[q] = struct{}{}
	}
	p.mu.Unlock()
	if q != nil && closed {
		q.drop(ErrPrimary, 0)
	}
}

// SecondaryInfo tells of a process that is attached, or that still has memory
// mapped.
type SecondaryInfo struct {
	Name  string
	PID   int
	UID   uint32
	Heap  HeapStats // of what it allocated
	Ended error     // nil: it is attached; else why it is not, and it may still have memory mapped
}

// Secondaries gives all there are, by process.
func (p *Primary) Secondaries() []SecondaryInfo {
	p.mu.Lock()
	peers := slices.Collect(maps.Keys(p.peers))
	p.mu.Unlock()
	all := make([]SecondaryInfo, len(peers))
	for i, q := range peers {
		all[i] = q.info()
	}
	slices.SortFunc(all, func(x, y SecondaryInfo) int { return x.PID - y.PID })
	return all
}

// Close ends the service and tells all secondaries, whose memory stays mapped
// until they are closed themselves, or their processes end. It waits for that
// until ctx is done; then the error wraps ErrBusy and names them, and Close can
// be called again.
func (p *Primary) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	peers := slices.Collect(maps.Keys(p.peers))
	p.mu.Unlock()
	_ = p.l.Close() // again, maybe
	for _, q := range peers {
		q.drop(ErrPrimary, 0)
	}
	done := make(chan struct{})
	go func() {
		p.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	err := fmt.Errorf("%w: secondaries have it mapped: end them", ErrBusy)
	for _, s := range p.Secondaries() {
		err = errors.Join(err, &SecondaryError{s.Name, s.PID, s.Ended})
	}
	return errors.Join(err, context.Cause(ctx))
}
