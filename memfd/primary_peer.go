package memfd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// peer is a secondary, seen from the primary.
type peer struct {
	p     *Primary
	c     *conn
	f     *follower
	name  string
	pid   int
	uid   uint32
	alive *os.File // is readable when the process has ended
	eager bool     // it wants external memory that it did not ask for

	ctx    context.Context // of what it asks for
	cancel context.CancelFunc
	acks   chan ack
	seq    uint32        // of what it is told; guarded by the follower's turn
	ended  chan struct{} // nothing is sent to it any more, and why is in err
	gone   chan struct{} // it holds nothing
	busy   atomic.Bool   // something it asked for is being done
	jobs   sync.WaitGroup

	mu       sync.Mutex
	chosen   map[string]bool     // external memory, by name, that it wants or does not
	attached map[*class]struct{} // external memory that it has
	heap     *Heap
	zoned    uint64 // bytes in zones that it made
	err      error
	patience time.Time // until when whoever needs it gone waits for that
	freed    bool      // gone is closed
}

// ack is what a secondary answers.
type ack struct {
	seq uint32
	err error
}

// serve is the life of a connection.
func (p *Primary) serve(c *conn) {
	q, err := p.admit(c)
	p.known(q)
	if err != nil {
		p.o.Log.Warn("a secondary was not admitted", "err", err)
		c.refuse(p.o.Deadline, err)
		return
	}
	log := p.o.Log.With("secondary", q.name, "pid", q.pid)
	p.work.Go(q.read)
	p.work.Go(func() {
		if awaitEnd(q.alive) {
			q.release()
			q.drop(io.EOF, 0)
		}
	})
	if err := p.a.follow(q.ctx, q.f); err != nil {
		q.refused(err)
	} else if err := q.c.write(time.Now().Add(p.o.Deadline), sayAttached, 0, nil); err != nil {
		q.drop(err, 0)
	} else {
		log.Info("a secondary has attached")
	}
	<-q.ended
	log.Info("a secondary has ended", "err", q.why())
	<-q.gone
	q.clear()
	p.mu.Lock()
	delete(p.peers, q)
	p.mu.Unlock()
	q.c.close()
	log.Info("a secondary holds nothing any more")
}

// refused ends a secondary that could not map what there is, and so holds
// nothing.
func (q *peer) refused(err error) {
	_ = q.c.write(time.Now().Add(q.p.o.Deadline), sayRefused, 0, func(e *encoder) { encodeError(e, err) })
	q.release()
	q.drop(err, 0)
}

// admit finds out who comes and has it reserve the address space.
func (p *Primary) admit(c *conn) (q *peer, err error) {
	cred, alive, err := credentials(c.c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = alive.Close()
		}
	}()
	if own := uint32(os.Geteuid()); cred.Uid != 0 && cred.Uid != own && !slices.Contains(p.o.UIDs, cred.Uid) {
		return nil, fmt.Errorf("process %d of user %d may not attach: run it as user %d, or name it in PrimaryOptions.UIDs",
			cred.Pid, cred.Uid, own)
	}
	until := time.Now().Add(p.o.Deadline)
	m, err := c.read(until)
	if err != nil {
		return nil, err
	}
	magic, name, eager := m.body.u64(), m.body.text(), m.body.flag()
	if m.verb != sayHello || magic != wireMagic || m.body.end() != nil {
		return nil, &wireError{"something else than a greeting"}
	}
	if named(name) != nil || printable(name) != name {
		return nil, fmt.Errorf("a secondary of the name %q: %w: use 1 to %d bytes that can be printed", name, ErrName, MaxName)
	}
	if err := c.write(until, sayWindows, 1, p.plot().encode); err != nil {
		return nil, err
	}
	if m, err = c.read(until); err != nil {
		return nil, err
	}
	answer, err := decodeAck(&m)
	if err == nil && answer.seq != 1 {
		err = &wireError{"an answer to nothing"}
	}
	if err = errors.Join(err, answer.err); err != nil {
		return nil, &SecondaryError{name, int(cred.Pid), err}
	}
	q = &peer{p: p, c: c, name: name, pid: int(cred.Pid), uid: cred.Uid, alive: alive, seq: 1,
		eager: eager, chosen: make(map[string]bool), attached: make(map[*class]struct{}),
		acks: make(chan ack, 1), ended: make(chan struct{}), gone: make(chan struct{})}
	q.f = newFollower(q)
	q.f.all = true
	q.ctx, q.cancel = context.WithCancel(context.Background())
	return q, nil
}

// plot tells what address space a secondary has to reserve.
func (p *Primary) plot() *plot {
	all := plot{name: p.a.o.Name, deadline: p.o.Deadline}
	for _, c := range p.a.classes {
		all.spaces = append(all.spaces, spaceOf(c))
	}
	return &all
}

// drop ends the connection as far as we are concerned. Whoever needs the
// secondary to be gone waits so long at most.
func (q *peer) drop(why error, patience time.Duration) {
	q.mu.Lock()
	if q.err != nil {
		q.mu.Unlock()
		return
	}
	q.err, q.patience = why, time.Now().Add(patience)
	q.mu.Unlock()
	q.p.a.locked(func() { q.f.stopping = true })
	q.cancel()
	close(q.ended)
	q.c.hush()
}

// why tells why the connection ended; nil: it has not.
func (q *peer) why() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// release says that the secondary holds nothing any more. That comes before
// drop: whoever finds the connection ended must not think that it still does.
func (q *peer) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.freed {
		q.freed = true
		close(q.gone)
	}
}

// clear takes back what the secondary had. It is gone.
func (q *peer) clear() {
	q.jobs.Wait()
	// It cannot fail: what is gone lets go of everything. What others still
	// hold is their trouble, and shown.
	_ = q.p.a.stop(context.Background(), q.f)
	q.mu.Lock()
	h := q.heap
	q.mu.Unlock()
	if h != nil {
		h.store.recall()
		_ = h.Close() // what cannot be given back is quarantined, and shown
	}
	_ = q.alive.Close()
}

// info tells of the secondary.
func (q *peer) info() SecondaryInfo {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := SecondaryInfo{Name: q.name, PID: q.pid, UID: q.uid, Ended: q.err}
	if q.heap != nil {
		s.Heap = q.heap.Stats()
	}
	return s
}

// String is how a growth that it refused names it.
func (q *peer) String() string { return fmt.Sprintf("secondary %q (pid %d)", q.name, q.pid) }
