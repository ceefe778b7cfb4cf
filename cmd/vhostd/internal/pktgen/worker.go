package pktgen

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/histogram"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// run is what all workers of a run know.
type run struct {
	c     *Config
	p     *port
	id    uint16 // in all frames sent
	clock clock
	dst   MAC
	src   MAC
	sent  atomic.Uint64 // frames that the back-end was given
	got   atomic.Uint64 // frames received
	left  atomic.Int64  // frames that may still be sent, if Count says so
	track tracker
}

// worker is what sending, receiving and reflecting ones have in common.
type worker struct {
	*run
	pair  int
	ctx   context.Context
	done  atomic.Bool // ctx is: cheaper to ask
	times histogram.Histogram
	first int64 // when the first burst was received
	last  int64 // … and the last
	err   error
}

// begin prepares for a life; what it gives ends it.
func (w *worker) begin(ctx context.Context) (end func()) {
	w.ctx = ctx
	stop := context.AfterFunc(ctx, func() { w.done.Store(true) })
	if w.c.Poll {
		runtime.LockOSThread()
	}
	return func() {
		stop()
		if w.c.Poll {
			runtime.UnlockOSThread()
		}
	}
}

// idle waits for something to do, in the way that was asked for, and says whether
// to go on.
func (w *worker) idle(wait func(context.Context) error) bool {
	if w.done.Load() {
		return false
	}
	if w.c.Poll {
		runtime.Gosched() // there may be more workers than processors
		return true
	}
	if err := wait(w.ctx); err != nil {
		if w.ctx.Err() == nil {
			w.err = err
		}
		return false
	}
	return true
}

// drain waits until the back-end has taken all that was sent, but no longer than
// Drain.
func (w *worker) drain(tx *vnet.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), w.c.Drain)
	defer cancel()
	for tx.Reap(); tx.Lent() > 0 && ctx.Err() == nil; tx.Reap() {
		time.Sleep(100 * time.Microsecond)
	}
}
