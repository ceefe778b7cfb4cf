package pktgen

import (
	"context"

	"github.com/vhostd/vhostd/virtio/vnet"
)

// reflector is a worker that sends back what it receives.
type reflector struct{ receiver }

// work reflects until ctx ends.
func (r *reflector) work(ctx context.Context) {
	defer r.begin(ctx)()
	rx, tx := r.p.Rx(r.pair), r.p.Tx(r.pair)
	defer r.drain(tx)
	for !r.done.Load() {
		n := rx.Receive(r.frames[:r.c.Burst+mostPieces])
		if n == 0 {
			tx.Reap() // what was sent is what can be received in
			if !r.idle(rx.Wait) {
				return
			}
			continue
		}
		for i := range r.frames[:n] {
			// The addresses lie in the first piece: none is shorter.
			if f := &r.frames[i]; !f.Bare && len(f.Data()) >= etherHeader {
				swap(f.Data())
			}
		}
		r.take(r.frames[:n])
		rx.Release(r.frames[r.back(tx, r.frames[:n]):n])
	}
}

// back sends frames until all are sent, or ctx ends, and says how many pieces
// that were.
func (r *reflector) back(tx *vnet.Tx, frames []vnet.Frame) (n int) {
	for {
		k := tx.SendFrames(frames[n:])
		for i := range frames[n : n+k] {
			if !frames[n+i].More {
				r.sent.Add(1)
			}
		}
		if n += k; n == len(frames) || k == 0 && !r.idle(tx.Wait) {
			return n
		}
	}
}
