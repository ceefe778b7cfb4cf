package vnet

import (
	"context"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Rx receives frames through one queue. It belongs to one worker.
type Rx struct {
	ring
	// got[head:] came back and was not handed on: in between two calls, the
	// beginning of a frame that the device has not shown the end of, or one
	// that a burst had no room for.
	got   []memtable.Buf
	head  int
	again bool // there may be a whole frame in it

	need    uint32          // bytes that a buffer has at least
	offload virtio.Features // what the device may leave to us, as a sender's features
}

// fillAt is how many free descriptors are worth a round of filling.
const fillAt = 32

// Receive gives frames that arrived, and says in how many pieces: mostly one for
// each, several where buffers are merged. Frames are whole. Their buffers are the
// caller's: to give back (Release), to send, or to keep; the ring is filled from
// the queue's Buffers meanwhile. A frame of more pieces than dst has room for is
// dropped and counted (QueueStats.TooLong), as are those whose header is no
// header (Bad) and those that nobody wants (Filtered, see Driver.SetPromiscuous).
//
// Receive does not allocate, nor wait.
func (r *Rx) Receive(dst []Frame) (n int) {
	r.enter()
	defer r.leave()
	filter := r.d.filter.Load()
	r.again = false
loop:
	for n < len(dst) {
		k, what := r.next(dst[n:])
		switch {
		case what == incomplete:
			if !r.more(len(dst) - n) {
				break loop
			}
		case what == tooLong && n > 0:
			r.again = true // it begins the next burst
			break loop
		case what == tooLong:
			r.stats.TooLong++
			r.skip(k)
		case what == bad:
			r.stats.Bad++
			r.skip(k)
		case filter != nil && !filter.wants(dst[n].Data()):
			r.stats.Filtered++
			r.skip(k)
		default:
			r.head += k
			r.count(dst[n : n+k])
			n += k
		}
	}
	// What a burst had no room for is no reason for the device to call again.
	r.again = r.again || n == len(dst) && r.head < len(r.got)
	if r.running && r.q.Room() >= min(fillAt, int(r.d.cfg.Size)/2) {
		r.fill()
		r.publish()
	}
	return n
}

// more takes buffers back from the device, and says whether there were any.
func (r *Rx) more(want int) bool {
	r.got = r.got[:copy(r.got, r.got[r.head:])]
	r.head = 0
	have := len(r.got)
	// No frame has more buffers than the ring, so there is room. It is a burst at
	// a time: a fault in a later one would cost the buffers of those before.
	k := r.q.Reap(r.got[have:min(have+min(want, burstMax), cap(r.got))])
	r.got = r.got[:have+k]
	return k > 0
}

// count counts a frame.
func (r *Rx) count(frame []Frame) {
	r.stats.Frames++
	for i := range frame {
		r.stats.Bytes += uint64(frame[i].Len)
	}
	r.stats.Bytes -= Headroom
}

// skip gives the next n buffers back without handing them on.
func (r *Rx) skip(n int) {
	r.bufs.Put(r.got[r.head : r.head+n])
	r.head += n
}

// Release gives the buffers of frames back to the queue's Buffers.
func (r *Rx) Release(frames []Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(frames) > 0 {
		k := min(len(frames), len(r.back))
		for i := range k {
			r.back[i] = frames[i].Buf
		}
		r.bufs.Put(r.back[:k])
		frames = frames[k:]
	}
}

// Wait parks until frames have arrived, or something else changed: then Receive
// is worth another try. The error is ctx's, [ErrClosed] or [ErrNoBuffers].
func (r *Rx) Wait(ctx context.Context) error {
	return r.park(ctx, false, func() (bool, error) {
		if r.q.Room() > 0 {
			r.fill()
			r.publish()
		}
		if !r.again && r.q.Lent() == 0 && r.q.Err() == nil {
			return false, ErrNoBuffers
		}
		return r.again, nil
	})
}
