package pktgen

import (
	"context"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// sender is a worker that sends.
type sender struct {
	worker
	pace      pace
	templates [][]byte // in the order of Sizes
	size      int      // the next of them
	flow      int      // the next
	seqs      []uint64 // by flow
	bufs      [mostBurst]memtable.Buf
}

func newSender(r *run, pair int) *sender {
	s := &sender{worker: worker{run: r, pair: pair}, seqs: make([]uint64, r.c.Flows)}
	s.pace.rate = r.c.Rate / float64(r.c.Pairs)
	made := make(map[int][]byte)
	for _, size := range r.c.Sizes {
		if made[size] == nil {
			made[size] = template(size, r.dst, r.src, r.id)
		}
		s.templates = append(s.templates, made[size])
	}
	return s
}

// work sends until there is nothing left to send, or ctx ends; then it waits for
// what the back-end has not taken, but no longer than Drain.
func (s *sender) work(ctx context.Context) {
	defer s.begin(ctx)()
	tx, cache := s.p.Tx(s.pair), s.p.caches[2*s.pair+1]
	for !s.done.Load() {
		now := s.clock.now()
		n, wait := s.pace.allow(now, s.c.Burst)
		if n == 0 {
			s.rest(wait)
			continue
		}
		if n = s.claim(n); n == 0 {
			break
		}
		k := cache.Get(s.bufs[:n])
		s.giveBack(n - k)
		if k == 0 {
			// All are with the back-end: the pool has more than the ring holds.
			if tx.Reap() == 0 && !s.idle(tx.Wait) {
				break
			}
			continue
		}
		s.fill(s.bufs[:k], now)
		if sent := s.send(tx, s.bufs[:k]); sent < k {
			cache.Put(s.bufs[sent:k])
			s.giveBack(k - sent)
		}
	}
	s.drain(tx)
}

// rest waits for the pace, in pieces that let the end of ctx be seen.
func (s *sender) rest(d time.Duration) {
	if !s.c.Poll {
		time.Sleep(min(d, 20*time.Millisecond))
	}
}

// claim takes n frames of what is left to send, or as many as there are.
func (s *sender) claim(n int) int {
	if s.c.Count == 0 {
		return n
	}
	after := s.left.Add(-int64(n))
	if after >= 0 {
		return n
	}
	short := min(int(-after), n)
	s.left.Add(int64(short))
	s.pace.undo(short)
	return n - short
}

// giveBack is for frames that were claimed and not sent.
func (s *sender) giveBack(n int) {
	if n > 0 {
		s.pace.undo(n)
		s.left.Add(int64(n))
	}
}

// fill makes the next frames.
func (s *sender) fill(bufs []memtable.Buf, now int64) {
	for i := range bufs {
		b := &bufs[i]
		t := s.templates[s.size]
		if s.size++; s.size == len(s.templates) {
			s.size = 0
		}
		f := vnet.Space(*b)[:len(t)]
		copy(f, t)
		stamp(f, uint16(s.pair*s.c.Flows+s.flow), s.seqs[s.flow], now)
		b.Len = vnet.Headroom + uint32(len(t))
		s.seqs[s.flow]++
		if s.flow++; s.flow == s.c.Flows {
			s.flow = 0
		}
	}
}

// send lends frames to the back-end until it has them all, or ctx ends.
func (s *sender) send(tx *vnet.Tx, bufs []memtable.Buf) (n int) {
	for {
		k := tx.Send(bufs[n:])
		s.sent.Add(uint64(k))
		if n += k; n == len(bufs) || k == 0 && !s.idle(tx.Wait) {
			return n
		}
	}
}
