package memfd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// afterthoughts is how many messages are taken from a secondary that was given
// up: an answer that is late, something it asked for, and that it is detached.
const afterthoughts = 4

// read takes what the secondary says, until it says no more.
func (q *peer) read() {
	left := afterthoughts
	for left > 0 {
		m, err := q.c.read(time.Time{})
		if err == nil {
			err = q.hear(&m)
		}
		if q.why() != nil {
			left-- // whatever it was
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed):
			// Most likely the process has died, and then its end is not far.
			q.drop(io.EOF, q.p.o.Deadline)
			return
		case err != nil:
			q.drop(err, 0)
			return
		}
	}
}

// hear takes one message. An error costs the connection.
func (q *peer) hear(m *message) error {
	switch m.verb {
	case sayDetach:
		q.release()
		q.drop(ErrDetached, 0)
		return nil
	case sayAck:
		a, err := decodeAck(m)
		if err != nil {
			return err
		}
		select {
		case q.acks <- a:
			return nil
		default:
			return &wireError{"more answers than it was asked"}
		}
	case sayAlloc, sayFree, sayZone, sayFind, sayBring, sayTake:
		w, err := decodeWish(m)
		if err != nil {
			return err
		}
		return q.start(w)
	}
	return &wireError{fmt.Sprintf("a message of kind %d, which is not for it to send", m.verb)}
}

// decodeAck reads an answer.
func decodeAck(m *message) (ack, error) {
	if m.verb != sayAck {
		return ack{}, &wireError{"something else than an answer"}
	}
	d := m.body
	a := ack{m.seq, decodeError(&d)}
	return a, d.end()
}

// start does what the secondary asks for, beside the reader: if the arena has
// to grow for it, the same secondary is asked to map that.
func (q *peer) start(w wish) error {
	if !q.busy.CompareAndSwap(false, true) {
		return &wireError{"a wish while another one was being done"}
	}
	q.jobs.Go(func() {
		g, err := q.grant(&w)
		q.busy.Store(false) // before it can know
		fail := q.c.write(time.Now().Add(q.p.o.Deadline), sayResult, w.seq, func(e *encoder) {
			encodeError(e, err)
			g.encode(e)
		})
		if fail != nil {
			q.fail(fail)
		}
	})
	return nil
}

// grant does what the secondary asks for.
func (q *peer) grant(w *wish) (g grant, err error) {
	switch w.verb {
	case sayFind:
		z := q.p.a.FindZone(w.name)
		if z == nil {
			return g, fmt.Errorf("zone %q: %w", printable(w.name), ErrNoZone)
		}
		if err := q.reaches(z.VA); err != nil {
			return g, fmt.Errorf("zone %q: %w", z.Name, err)
		}
		return grant{at: numberOf(z.VA), addr: uint64(z.Addr), size: z.Size, has: z.Size}, nil
	case sayZone:
		return q.makeZone(w)
	case sayBring, sayTake:
		return g, q.attach(w.name, w.verb == sayBring)
	}
	h, err := q.ownHeap()
	if err != nil {
		return g, err
	}
	if w.verb == sayFree {
		return g, h.store.giveAt(w.at, w.token)
	}
	if err := q.within(w.zone.Size, h); err != nil {
		return g, err
	}
	b, err := h.Alloc(q.ctx, w.zone.Size, w.zone.Align)
	if err != nil {
		return g, err
	}
	return grant{numberOf(b.VA), uint64(b.Addr), uint64(b.Len), uint64(b.Cap), b.Token}, nil
}

// makeZone makes a zone, which stays when the secondary goes.
func (q *peer) makeZone(w *wish) (grant, error) {
	if printable(w.name) != w.name {
		return grant{}, ErrName
	}
	h, err := q.ownHeap()
	if err == nil {
		err = q.within(w.zone.Size, h)
	}
	if err != nil {
		return grant{}, err
	}
	z, err := q.p.a.Zone(q.ctx, w.name, w.zone)
	if err != nil {
		return grant{}, err
	}
	// The biggest piece may be bigger than what was asked for.
	if err := q.within(z.Size, h); err != nil {
		return grant{}, errors.Join(err, z.Free())
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.zoned += z.Size
	return grant{at: numberOf(z.VA), addr: uint64(z.Addr), size: z.Size, has: z.Size}, nil
}

// ownHeap gives the heap of the secondary, which is made when it is needed.
func (q *peer) ownHeap() (*Heap, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.heap != nil {
		return q.heap, nil
	}
	end := fmt.Sprintf("[%d]", q.pid)
	h, err := q.p.a.Heap(q.name[:min(len(q.name), MaxName-len(end))]+end, q.p.o.Heap)
	q.heap = h
	return h, err
}

// within tests the limit of what one secondary may have.
func (q *peer) within(size uint64, h *Heap) error {
	limit := q.p.o.Limit
	if limit == 0 {
		return nil
	}
	q.mu.Lock()
	have := q.zoned + h.Stats().Used
	q.mu.Unlock()
	if size > limit || have > limit-size {
		return &ShortageError{What: "memory that one secondary may have", Node: AnyNode, Want: size,
			Have: limit - min(limit, have), Advice: "free some, or set PrimaryOptions.Limit to more"}
	}
	return nil
}

// recall takes back everything that is lent: whoever had it is gone.
func (s *store) recall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.chunks.all {
		if s.chunks.all[i].mood == lent {
			s.chunks.give(uint32(i))
		}
	}
}

// isTimeout tells whether a deadline has passed.
func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}
