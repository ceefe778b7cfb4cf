package peers

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// Stream sends numbered frames from one pair of a front-end to one pair of
// another, or of the same, and looks at each byte that arrives. There are never
// more of them on their way than Window: a receiver that has posted its ring
// then lacks no buffers, and not one frame may be lost.
//
// One goroutine runs it. Only the counters may be read by others.
type Stream struct {
	From, To *Front
	Pair     int
	Window   int
	Largest  int  // frame, bytes; 0: 1514
	Lossy    bool // the back-end is killed: frames may be missing, or come twice, and are counted

	// Inspect, unless nil, sees each buffer before it is sent.
	Inspect func(memtable.Buf)

	Sent, Received, Lost, Again atomic.Uint64

	expect uint64 // number of the next frame to arrive
	silent time.Time
	want   [frameMax]byte
	bufs   [32]memtable.Buf
	frames [64]vnet.Frame
}

const (
	frameMin  = 60
	frameMax  = 1514
	etherType = 0x88b5 // for local experiments: nobody looks into these frames
	headBytes = 14
)

// numbered writes frame number n: its addresses, its number, and contents that
// no other frame has.
func (s *Stream) numbered(b []byte, n uint64) []byte {
	largest := s.Largest
	if largest == 0 {
		largest = frameMax
	}
	// Sizes come in all their variety, small ones and whole ones most often.
	size := frameMin + int(n*n)%(largest-frameMin+1)
	b = b[:size]
	from, to := s.From.MAC(), s.To.MAC()
	copy(b, to[:])
	copy(b[6:], from[:])
	binary.BigEndian.PutUint16(b[12:], etherType)
	binary.LittleEndian.PutUint64(b[headBytes:], n)
	at, word := headBytes+8, n*0x9e3779b97f4a7c15
	for ; at+8 <= size; at += 8 {
		binary.LittleEndian.PutUint64(b[at:], word)
		word += 0x2545f4914f6cdd1d
	}
	for ; at < size; at++ {
		b[at] = byte(at) ^ byte(n)
	}
	return b
}

// Run goes on until so many frames were sent and, unless Lossy, have arrived.
func (s *Stream) Run(ctx context.Context, frames uint64) error {
	return s.RunUntil(ctx, func() bool { return s.Sent.Load() >= frames })
}

// RunUntil goes on until enough says so, and what was sent has arrived. The error
// says what went wrong on the way.
func (s *Stream) RunUntil(ctx context.Context, enough func() bool) error {
	s.silent = time.Now()
	for {
		done := enough()
		moved := 0
		if !done {
			moved = s.send()
		}
		n, err := s.receive()
		if err != nil {
			return err
		}
		switch moved += n; {
		case moved > 0:
			s.silent = time.Now()
		case done && s.onTheirWay() == 0:
			return nil
		default:
			if err := s.idle(ctx); err != nil {
				return err
			}
		}
	}
}

// onTheirWay is how many frames were sent and neither arrived nor are lost.
func (s *Stream) onTheirWay() int { return int(s.Sent.Load() - s.Received.Load() - s.Lost.Load()) }

// quietFor is how long nothing arrives before frames on their way are given up,
// where some may be lost.
const quietFor = 200 * time.Millisecond

// idle waits for something to do.
func (s *Stream) idle(ctx context.Context) error {
	if s.Lossy && !(s.From.Stats().Present && s.To.Stats().Present) {
		s.silent = time.Now() // what the next back-end goes on with is not lost
	}
	quiet := time.Since(s.silent)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%d frames sent, %d received: %w", s.Sent.Load(), s.Received.Load(), context.Cause(ctx))
	case s.Lossy && quiet > quietFor && s.onTheirWay() > 0:
		s.lose(s.Sent.Load() - s.expect)
		s.expect = s.Sent.Load()
		return nil
	case quiet > patience:
		return fmt.Errorf("of %d frames %d arrived, and then no more for %v", s.Sent.Load(), s.Received.Load(), quiet)
	}
	// What wakes the wait may be either end's; so it is a short one.
	wait, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
	defer cancel()
	_ = s.To.Rx(s.Pair).Wait(wait)
	return nil
}

func (s *Stream) lose(n uint64) { s.Lost.Add(n) }

// send fills and sends what the window has room for.
func (s *Stream) send() int {
	tx := s.From.Tx(s.Pair)
	room := min(len(s.bufs), s.Window-s.onTheirWay())
	if room <= 0 {
		return 0
	}
	bufs := s.bufs[:s.From.Get(s.Pair, s.bufs[:room])]
	first := s.Sent.Load()
	for i := range bufs {
		b := &bufs[i]
		b.Len = vnet.Headroom + uint32(len(s.numbered(vnet.Space(*b), first+uint64(i))))
		if s.Inspect != nil {
			s.Inspect(*b)
		}
	}
	n := tx.Send(bufs)
	s.Sent.Add(uint64(n))
	if n < len(bufs) {
		s.From.Put(s.Pair, bufs[n:])
	}
	if n == 0 {
		tx.Reap()
	}
	return n
}

// receive takes and checks what has arrived.
func (s *Stream) receive() (n int, err error) {
	rx := s.To.Rx(s.Pair)
	got := s.frames[:rx.Receive(s.frames[:])]
	for i := range got {
		if err == nil {
			err = s.check(&got[i])
		}
	}
	rx.Release(got)
	return len(got), err
}

// check looks at a frame that arrived.
func (s *Stream) check(f *vnet.Frame) error {
	data := f.Data()
	if f.More || len(data) < frameMin {
		return fmt.Errorf("after frame %d: %d bytes arrived, more to come: %v", s.expect, len(data), f.More)
	}
	if binary.BigEndian.Uint16(data[12:]) != etherType {
		return nil // a stranger's, such as a switch's own
	}
	number := binary.LittleEndian.Uint64(data[headBytes:])
	if number != s.expect && !s.Lossy || number >= s.Sent.Load() {
		return fmt.Errorf("frame %d arrived when %d was next, of %d", number, s.expect, s.Sent.Load())
	}
	if want := s.numbered(s.want[:], number); !bytes.Equal(want, data) {
		return fmt.Errorf("frame %d of %d bytes arrived as %d other bytes:\nsent %x\ngot  %x", number, len(want), len(data), want, data)
	}
	if number < s.expect {
		s.Again.Add(1) // or it was given up too early
		return nil
	}
	s.lose(number - s.expect)
	s.expect = number + 1
	s.Received.Add(1)
	return nil
}
