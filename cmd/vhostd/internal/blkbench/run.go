package blkbench

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/backend"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// run is what all workers of a run know.
type run struct {
	c            *Config
	disk         *disk
	seed         uint64
	requestsDone atomic.Uint64
	left         atomic.Int64 // requests that may still be made, if Count says so
}

// Run does what c says until it is done or ctx ends, and reports. watch, if it is
// not nil, is told every second how many requests were done, on a goroutine of its
// own. What was written is read back in the end, unless ctx ends.
//
// The error says why it could not be done. That contents are wrong, or requests
// failed, is no error but in the report.
func Run(ctx context.Context, c Config, watch func(elapsed time.Duration, done uint64)) (*Report, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	d, err := openDisk(ctx, &c)
	if err != nil {
		return nil, err
	}
	blocks, err := c.fit(d.Disk, d.Queue(0).Limits())
	if err != nil {
		return nil, errors.Join(err, d.undo.Close())
	}
	r := &run{c: &c, disk: d, seed: rand.Uint64()}
	r.left.Store(int64(min(c.Count, 1<<62)))
	var workers []*worker
	for i := range c.Queues {
		workers = append(workers, newWorker(r, i, blocks, d.bufs[i*c.Depth:][:c.Depth]))
	}
	report, err := r.move(ctx, workers, watch)
	return report, errors.Join(err, d.undo.Close())
}

// move has the workers work, and reports.
func (r *run) move(ctx context.Context, workers []*worker, watch func(time.Duration, uint64)) (*Report, error) {
	workCtx, stop := context.WithCancel(ctx)
	defer stop()
	if r.c.Duration > 0 {
		workCtx, stop = context.WithTimeout(ctx, r.c.Duration)
		defer stop()
	}
	if r.c.Poll {
		// Collector and timers need processors of their own: a worker that
		// polls never gives its own away.
		procs := runtime.GOMAXPROCS(len(workers) + 2)
		defer runtime.GOMAXPROCS(procs)
	}
	if watch != nil {
		defer r.watch(watch)()
	}
	before, start := backend.Mallocs(), time.Now()
	var working sync.WaitGroup
	for _, w := range workers {
		working.Go(func() { w.work(workCtx, ctx, start) })
	}
	working.Wait()
	report := r.report(workers, backend.Mallocs()-before)
	var err error
	for _, w := range workers {
		err = errors.Join(err, w.err)
	}
	return report, err
}

// readBack reads every block that was written, and checks it.
func (w *worker) readBack(ctx context.Context) {
	w.back = true
	at := uint64(0)
	w.turn(ctx, func(s *slot) bool {
		for ; at < w.blocks; at++ {
			if version := w.known[at]; version != 0 {
				s.kind, s.block, s.check = vblk.TypeIn, w.first+at, version
				w.busy[at/64] |= 1 << (at % 64)
				at++
				return true
			}
		}
		return false
	})
	w.settle(ctx)
}

// watch tells watch every second, until end.
func (r *run) watch(watch func(time.Duration, uint64)) (end func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for start := time.Now(); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
				watch(time.Since(start), r.requestsDone.Load())
			}
		}
	}()
	return func() {
		close(stop)
		<-ended
	}
}
