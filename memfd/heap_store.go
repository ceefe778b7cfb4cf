package memfd

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/vhostd/vhostd/memtable"
)

// store lends memory of any size, and takes extents from the supply and gives
// them back as it needs them. It is what heaps and zones are made of.
type store struct {
	from   supply
	owner  string // for people
	shared bool
	flat   bool // what is lent is contiguous for devices
	linger linger

	// turn is held by who grows the store, over the supply's mirrors. Who
	// waits for it is served in order, and the memory it brings goes to who
	// asked for it first; others allocate what is vacant meanwhile.
	turn chan struct{}

	mu       sync.Mutex
	chunks   chunks
	closed   bool
	grown    uint64 // bytes
	returned uint64
}

func newStore(from supply, owner string, shared, flat bool, wait time.Duration) *store {
	s := &store{from: from, owner: owner, shared: shared, flat: flat, turn: make(chan struct{}, 1)}
	s.linger.init(wait, s.sweep)
	return s
}

// loan is memory that a store lent.
type loan struct {
	va    memtable.VA
	iova  uint64
	size  uint64
	dirty uint64 // bytes from va on that may not be zero
	token uint64 // see token
}

// loan describes chunk i. mu is held.
func (s *store) loan(i uint32) loan {
	c := &s.chunks.all[i]
	return loan{s.chunks.va(c.kind, c.addr), c.iova, c.size, c.dirty, token(c, i)}
}

// clear makes the memory zero. A peer that has the file may have taken its pages
// away, and then there may be no other ones: that is an error, not a crash.
func (l *loan) clear() error {
	if l.dirty == 0 {
		return nil
	}
	return memtable.Guard(func() error { clear(l.va.Bytes(l.dirty)); return nil })
}

// address gives the device's address of memory that was lent.
func (s *store) address(va memtable.VA) memtable.IOVA {
	if addr, _, ok := s.from.iova(va); ok {
		return addr
	}
	return memtable.NoIOVA
}

// most is more than any address space has: sums of a few such sizes and
// addresses do not wrap.
const most = 1 << 56

// check tests and rounds what was asked for.
func (r *request) check() error {
	switch {
	case r.size == 0 || r.size > most:
		return fmt.Errorf("%d bytes: %w", r.size, ErrSize)
	case r.align > most || r.align&(r.align-1) != 0:
		return fmt.Errorf("alignment %d: %w: use a power of two", r.align, ErrSize)
	}
	r.size, r.align = up(r.size, quantum), max(r.align, quantum)
	if r.bound != 0 && (r.bound > most || r.bound&(r.bound-1) != 0 || r.bound < r.size) {
		return fmt.Errorf("bound %d for %d bytes: %w: use a power of two that is not less than the size", r.bound, r.size, ErrSize)
	}
	return nil
}

// try lends what there is.
func (s *store) try(r *request) (l loan, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return l, false, fmt.Errorf("%s: %w", s.owner, ErrClosed)
	}
	i := s.chunks.take(r)
	if i == 0 {
		return l, false, nil
	}
	return s.loan(i), true, nil
}

// quick lends what lies on the shelf, to a user all of whose requests are alike
// but for the size. Where a store is closed nothing lies there. It writes field
// by field into the caller's result: a struct of so many is copied otherwise, in
// units in which it was not written, and the processor waits for that.
func (s *store) quick(n, align uint64, b *memtable.Buf) (ok bool) {
	if n > shelfMost || align&(align-1) != 0 {
		return false
	}
	s.mu.Lock()
	if i := s.chunks.onShelf((n + quantum - 1) / quantum); i != 0 {
		c := &s.chunks.all[i]
		if ok = c.addr&(max(align, 1)-1) == 0; ok {
			s.chunks.unshelve(c)
			s.chunks.lend(c)
			b.VA, b.Token = s.chunks.va(c.kind, c.addr), token(c, i)
			b.Len, b.Cap = uint32(n), uint32(c.size)
			if s.shared {
				b.Addr = memtable.IOVA(c.iova)
			}
		}
	}
	s.mu.Unlock()
	return ok
}

// token is the number of a chunk, and how often it was lent.
func token(c *chunk, i uint32) uint64 { return uint64(c.gen)<<32 | uint64(i) }

// chunk finds the chunk that was lent at an address with a token. mu is held.
func (s *store) chunk(at, token uint64) (i uint32, err error) {
	i = uint32(token)
	if i != 0 && uint64(i) < uint64(len(s.chunks.all)) {
		if c := &s.chunks.all[i]; c.mood == lent && c.gen == uint32(token>>32) && c.addr == at {
			return i, nil
		}
	}
	// Only to say what is wrong.
	if n := s.chunks.place(at); n > 0 && at-s.chunks.spans[n-1].addr < s.chunks.spans[n-1].size {
		return 0, fmt.Errorf("%s: 0x%x: %w, or its address or token was changed", s.owner, at, ErrFreed)
	}
	return 0, fmt.Errorf("%s: 0x%x: %w", s.owner, at, ErrForeign)
}

// give takes back what was lent.
func (s *store) give(va memtable.VA, token uint64) error { return s.giveAt(numberOf(va), token) }

// giveAt is give for an address of another process, which may be any number.
func (s *store) giveAt(at, token uint64) error {
	s.mu.Lock()
	i, err := s.chunk(at, token)
	arm := err == nil && s.chunks.give(i)
	s.mu.Unlock() // deferring it is dear beside the rest
	if arm {
		s.linger.arm()
	}
	return err
}

// resize changes the size of what was lent, where it is; ok is false if it would
// have to move.
func (s *store) resize(va memtable.VA, token uint64, size uint64) (l loan, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.chunk(numberOf(va), token)
	if err != nil {
		return l, false, err
	}
	ok, extents := s.chunks.resize(i, size)
	if extents {
		s.linger.arm()
	}
	return s.loan(i), ok, nil
}

// sweep gives back the extents that were vacant for long. more tells that
// others will be.
func (s *store) sweep() (more bool) {
	s.mu.Lock()
	out, more := s.chunks.sweep(false)
	s.mu.Unlock()
	// Memory that cannot be taken back is quarantined, and shown in the layout
	// of the arena. It is not ours any more either way.
	_ = s.release(out)
	return more
}

// release gives extents back that are not in the chunks any more.
func (s *store) release(out []extents) (err error) {
	for _, e := range out {
		if fail := s.from.release(context.Background(), e.va, e.size); fail != nil && err == nil {
			err = fail
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range out {
		s.returned += e.size
	}
	return err
}

func (s *store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// close gives everything back; closed is false, and nothing has happened, while
// something is lent.
func (s *store) close() (closed bool, err error) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.mu.Lock()
	if n := s.chunks.lent; n > 0 {
		defer s.mu.Unlock()
		return false, fmt.Errorf("%s: %d allocations of %s: %w", s.owner, n, bytesText(s.chunks.used), ErrBusy)
	}
	s.closed = true
	out, _ := s.chunks.sweep(true)
	s.mu.Unlock()
	s.linger.stop()
	return true, s.release(out)
}
