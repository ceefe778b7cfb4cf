package pktgen

import (
	"context"
	"time"

	"github.com/vhostd/vhostd/virtio/vnet"
)

// receiver is a worker that receives.
type receiver struct {
	worker
	stop   func() // ends the run: Count frames were received
	frames [mostBurst + mostPieces]vnet.Frame
}

// mostPieces is how many buffers a frame may be spread over: 64 KiB in the
// smallest that are used.
const mostPieces = 33

// work receives until ctx ends, and then what had arrived by then.
func (r *receiver) work(ctx context.Context) {
	defer r.begin(ctx)()
	rx := r.p.Rx(r.pair)
	for last := r.c.Ring; last > 0; {
		// There is always room for the longest frame, and for a burst of short ones.
		n := rx.Receive(r.frames[:r.c.Burst+mostPieces])
		if n == 0 {
			if !r.idle(rx.Wait) {
				return
			}
			continue
		}
		r.take(r.frames[:n])
		rx.Release(r.frames[:n])
		if r.done.Load() {
			last -= n // of a ring that may be filled again and again
		}
	}
}

// take counts what was received, and looks at it if that is wanted.
func (r *receiver) take(frames []vnet.Frame) {
	now := r.clock.now()
	if r.first == 0 {
		r.first = now
	}
	r.last = now
	count := uint64(0)
	look := r.c.Check || r.c.Mode == RTT
	if look {
		r.track.mu.Lock()
		defer r.track.mu.Unlock()
	}
	for len(frames) > 0 {
		n := 1
		for frames[n-1].More {
			n++
		}
		if look {
			r.look(frames[:n], now)
		}
		frames = frames[n:]
		count++
	}
	if got := r.got.Add(count); r.c.Mode == Rx && r.c.Count != 0 && got >= r.c.Count {
		r.stop()
	}
}

// old is the age from which on a frame's time is not believed.
const old = int64(time.Minute)

// look reads a frame, checks what it is full of, and measures how long it took.
func (r *receiver) look(frame []vnet.Frame, now int64) {
	m, ours := read(frame[0].Data())
	if !ours {
		r.track.foreign++
		return
	}
	if r.c.Check && !whole(frame, m.size) {
		r.track.damaged++
		return
	}
	r.track.note(m)
	if took := now - m.at; took >= 0 && took < old && (r.track.any || m.run == r.id) {
		r.times.Add(time.Duration(took))
	}
}

// whole says whether a frame has its length, and all of its contents.
func whole(frame []vnet.Frame, size int) bool {
	at := 0
	for i := range frame {
		piece := frame[i].Data()
		if !filled(piece, at) {
			return false
		}
		at += len(piece)
	}
	return at == size
}
