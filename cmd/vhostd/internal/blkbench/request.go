package blkbench

import (
	"errors"
	"time"

	"github.com/vhostd/vhostd/virtio/vblk"
)

// choose makes up the next request of a run; false: there are enough.
func (w *worker) choose(s *slot) bool {
	if w.c.Flush > 0 && w.writes >= w.c.Flush {
		w.writes = 0
		s.kind, s.check = vblk.TypeFlush, 0
		return w.claim()
	}
	if !w.claim() {
		return false
	}
	s.kind, s.check = vblk.TypeIn, 0
	if w.random.IntN(100) >= w.c.Reads {
		s.kind = vblk.TypeOut
	}
	s.block = w.place()
	if w.c.Verify {
		at := s.block - w.first
		w.busy[at/64] |= 1 << (at % 64)
		if s.kind == vblk.TypeIn {
			s.check = w.known[at]
		} else {
			// A version is never used again: a block that kept what it had
			// before would pass for the new one.
			if w.version++; w.version == 0 {
				w.version = 1
			}
			w.known[at] = w.version
			fill(s.data, w.seed, s.block, w.version)
		}
	}
	if s.kind == vblk.TypeOut {
		w.writes++
	}
	return true
}

// claim takes one request of those that are left.
func (w *worker) claim() bool {
	if w.c.Count == 0 {
		return true
	}
	if w.left.Add(-1) >= 0 {
		return true
	}
	w.left.Add(1)
	return false
}

// place gives the block of the next request. Where contents are verified no other
// request is at it: there are more blocks than requests in flight.
func (w *worker) place() uint64 {
	for {
		at := w.next
		if w.c.Sequential {
			if w.next++; w.next == w.blocks {
				w.next = 0
			}
		} else {
			at = w.random.Uint64N(w.blocks)
		}
		if w.busy == nil || w.busy[at/64]>>(at%64)&1 == 0 {
			return w.first + at
		}
	}
}

// submit lends what is made up, or as much of it as there is room for.
func (w *worker) submit() (n int) {
	now := time.Now()
	list := w.ready[:min(len(w.ready), burst)]
	for i, at := range list {
		s := &w.slots[at]
		s.start = now
		w.requests[i] = vblk.Request{Type: s.kind, Sector: s.block * (w.c.Block / vblk.SectorSize), Bufs: s.pieces, Token: uint64(at)}
		if s.kind == vblk.TypeFlush {
			w.requests[i].Sector, w.requests[i].Bufs = 0, nil
		}
	}
	n, err := w.q.Submit(w.requests[:len(list)])
	w.ready = w.ready[:copy(w.ready, w.ready[n:])]
	if err != nil && !errors.Is(err, vblk.ErrLost) { // after a loss there may be another device
		w.err = err
	}
	return n
}

// complete takes back what is done.
func (w *worker) complete() (n int) {
	n = w.q.Complete(w.done[:])
	if n == 0 {
		return 0
	}
	now := time.Now()
	for _, d := range w.done[:n] {
		w.finish(&w.slots[d.Token], now, d.Err)
		w.release(int(d.Token))
	}
	w.requestsDone.Add(uint64(n))
	return n
}

// finish counts a request that came back.
func (w *worker) finish(s *slot, now time.Time, err error) {
	took := now.Sub(s.start)
	switch {
	case err != nil:
		w.failed++
		if w.firstErr == nil {
			w.firstErr = err
		}
		w.forget(s)
		return
	case s.kind == vblk.TypeFlush:
		w.flushed++
		return
	case s.kind == vblk.TypeOut:
		w.written++
		w.writeTimes.Add(took)
		return
	case !w.back:
		w.read++
		w.readTimes.Add(took)
	}
	if s.check == 0 {
		return
	}
	w.verified++
	if !holds(s.data, w.seed, s.block, s.check) {
		if w.wrong++; w.wrong == 1 {
			w.firstWrong = int64(s.block * w.c.Block)
		}
	}
}

// forget is for a write that was not done, or not known to be: nobody knows what
// is there.
func (w *worker) forget(s *slot) {
	if w.known != nil && s.kind == vblk.TypeOut {
		w.known[s.block-w.first] = 0
	}
}

// release makes a slot free, and its block with it.
func (w *worker) release(i int) {
	s := &w.slots[i]
	if w.busy != nil && s.kind != vblk.TypeFlush {
		at := s.block - w.first
		w.busy[at/64] &^= 1 << (at % 64)
	}
	w.free = append(w.free, i)
}
