package memfd

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/vhostd/vhostd/memtable"
)

// answer is what the primary says to something that was asked for.
type answer struct {
	g   grant
	err error
}

// ZoneView is a zone of the primary, as a secondary sees it: it is the primary
// that frees it.
type ZoneView struct {
	Name string
	VA   memtable.VA
	Addr memtable.IOVA // of its first byte, and of the others if it is contiguous
	Size uint64        // bytes
}

// Alloc borrows n bytes of the primary, as Heap.Alloc does there: errors wrap
// what they are there. The memory is the secondary's until it frees it, is
// closed, or its process ends.
//
// If ctx ends first, what comes late is given back.
func (s *Secondary) Alloc(ctx context.Context, n, align uint64) (memtable.Buf, error) {
	g, err := s.ask(ctx, wish{verb: sayAlloc, zone: ZoneOptions{Size: n, Align: align}})
	if err != nil {
		return memtable.Buf{}, err
	}
	va, ok := s.place(g.at, g.has)
	if !ok || g.size > g.has || g.has > math.MaxUint32 {
		return memtable.Buf{}, &wireError{"memory that has not arrived"}
	}
	return memtable.Buf{VA: va, Addr: memtable.IOVA(g.addr), Len: uint32(g.size), Cap: uint32(g.has), Token: g.token}, nil
}

// Free gives b back, with VA and Token as they were lent. The error wraps
// ErrFreed or ErrForeign if it is not lent to this secondary.
func (s *Secondary) Free(ctx context.Context, b memtable.Buf) error {
	_, err := s.ask(ctx, wish{verb: sayFree, at: numberOf(b.VA), token: b.Token})
	return err
}

// Zone makes a zone in the primary, which stays when the secondary goes. It comes
// from the arena: with a heap in o the error wraps ErrForeign.
func (s *Secondary) Zone(ctx context.Context, name string, o ZoneOptions) (ZoneView, error) {
	err := named(name)
	if err == nil && o.Heap != nil {
		err = fmt.Errorf("its heap is one of this process: %w", ErrForeign)
	}
	if err != nil {
		return ZoneView{}, fmt.Errorf("zone %q: %w", name, err)
	}
	return s.viewed(name)(s.ask(ctx, wish{verb: sayZone, name: name, zone: o}))
}

// FindZone gives the zone of a name. The error wraps ErrNoZone if there is none,
// and if it lies in external memory ErrNoFile, where no other process can have
// that, or ErrNotAttached, where this one has not. It is good for as long as the primary does not free it.
func (s *Secondary) FindZone(ctx context.Context, name string) (ZoneView, error) {
	if err := named(name); err != nil {
		return ZoneView{}, fmt.Errorf("zone %q: %w", name, err)
	}
	return s.viewed(name)(s.ask(ctx, wish{verb: sayFind, name: name}))
}

// viewed makes a zone of what was answered.
func (s *Secondary) viewed(name string) func(grant, error) (ZoneView, error) {
	return func(g grant, err error) (ZoneView, error) {
		if err != nil {
			return ZoneView{}, err
		}
		va, ok := s.place(g.at, g.size)
		if !ok {
			return ZoneView{}, &wireError{"a zone that has not arrived"}
		}
		return ZoneView{Name: name, VA: va, Addr: memtable.IOVA(g.addr), Size: g.size}, nil
	}
}

// ask asks the primary for something, one after another.
func (s *Secondary) ask(ctx context.Context, w wish) (grant, error) {
	if err := cmp.Or(s.Err(), ctx.Err()); err != nil {
		return grant{}, err
	}
	select {
	case s.asking <- struct{}{}:
	case <-ctx.Done():
		return grant{}, context.Cause(ctx)
	case <-s.done:
		return grant{}, s.Err()
	}
	s.asked++
	w.seq = s.asked
	s.expect(w.seq)
	if err := s.c.write(time.Now().Add(s.plot.deadline), w.verb, w.seq, w.encode); err != nil {
		s.expect(0)
		<-s.asking
		return grant{}, cmp.Or(s.Err(), fmt.Errorf("%w: %w", ErrPrimary, err))
	}
	select {
	case a := <-s.answers:
		<-s.asking
		return a.g, a.err
	case <-s.done:
		<-s.asking
		return grant{}, s.Err()
	case <-ctx.Done():
		go s.regret(w.verb)
		return grant{}, context.Cause(ctx)
	}
}

// regret waits for an answer that nobody wants any more, and gives back what it
// brings. It has the turn to ask.
func (s *Secondary) regret(v verb) {
	var a answer
	select {
	case a = <-s.answers:
	case <-s.done:
	}
	<-s.asking
	if v == sayAlloc && a.err == nil && a.g.token != 0 {
		// If that fails there is no primary, and it is given back anyway.
		_, _ = s.ask(context.Background(), wish{verb: sayFree, at: a.g.at, token: a.g.token})
	}
}

// expect says which answer may come; 0: none.
func (s *Secondary) expect(seq uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = seq
}

// hearResult hands an answer to who waits for it.
func (s *Secondary) hearResult(m *message) error {
	d := m.body
	err := decodeError(&d)
	a := answer{decodeGrant(&d), err}
	if err := d.end(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == 0 || s.waiting != m.seq {
		return &wireError{"an answer to nothing that was asked"}
	}
	s.waiting = 0
	s.answers <- a // there is room for the one that may come
	return nil
}
