package pktgen

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/backend"
)

// Run does what c says until it is done or ctx ends, and reports. watch, if it is
// not nil, is told every second how it goes, on a goroutine of its own.
//
// The error says why it could not be done. That frames are missing is no error
// but in the report.
func Run(ctx context.Context, c Config, watch func(Progress)) (*Report, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	clock, err := newClock()
	if err != nil {
		return nil, err
	}
	p, err := openPort(ctx, &c)
	if err != nil {
		return nil, err
	}
	r := &run{c: &c, p: p, id: uint16(1 + rand.N(65535)), clock: clock, dst: c.Dst, src: p.MAC()}
	if r.dst == (MAC{}) {
		r.dst = anywhere
	}
	r.track.run, r.track.any = r.id, !c.sends()
	r.left.Store(int64(min(c.Count, 1<<62)))
	report, err := r.move(ctx, watch)
	return report, errors.Join(err, p.undo.Close())
}

// crew is the workers of a run, by what they do.
type crew struct {
	senders    []*sender
	receivers  []*receiver
	reflectors []*reflector
}

// hire makes the workers. stop ends the run.
func (r *run) hire(stop func()) (w crew) {
	for pair := range r.c.Pairs {
		if r.c.sends() {
			w.senders = append(w.senders, newSender(r, pair))
		}
		if r.c.receives() {
			w.receivers = append(w.receivers, &receiver{worker: worker{run: r, pair: pair}, stop: stop})
		}
		if r.c.Mode == Reflect {
			w.reflectors = append(w.reflectors, &reflector{receiver{worker: worker{run: r, pair: pair}, stop: stop}})
		}
	}
	return w
}

// move has the workers work, and reports.
func (r *run) move(ctx context.Context, watch func(Progress)) (*Report, error) {
	// Who receives goes on for a while when who sends has stopped.
	sendCtx, stop := context.WithCancel(ctx)
	defer stop()
	if r.c.Duration > 0 {
		sendCtx, stop = context.WithTimeout(ctx, r.c.Duration)
		defer stop()
	}
	recvCtx, stopReceiving := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReceiving()
	if !r.c.sends() {
		defer context.AfterFunc(sendCtx, stopReceiving)()
	}
	w := r.hire(stop)
	if r.c.Poll {
		// Collector and timers need processors of their own: a worker that
		// polls never gives its own away.
		procs := runtime.GOMAXPROCS(len(w.senders) + len(w.receivers) + len(w.reflectors) + 2)
		defer runtime.GOMAXPROCS(procs)
	}
	if watch != nil {
		end := r.watch(watch)
		defer end()
	}
	before, start := backend.Mallocs(), time.Now()
	var sending, receiving sync.WaitGroup
	for _, x := range w.receivers {
		receiving.Go(func() { x.work(recvCtx) })
	}
	for _, x := range w.reflectors {
		receiving.Go(func() { x.work(recvCtx) })
	}
	for _, x := range w.senders {
		sending.Go(func() { x.work(sendCtx) })
	}
	sending.Wait()
	took := time.Since(start)
	if r.c.sends() && r.c.receives() {
		r.awaitStragglers()
		stopReceiving()
	}
	receiving.Wait()
	if !r.c.sends() {
		took = time.Since(start)
	}
	after := backend.Mallocs()
	return r.report(w, took, after-before), w.err()
}

// awaitStragglers waits for what was sent to come back, as long as some of it
// does within every Drain.
func (r *run) awaitStragglers() {
	got, since := r.got.Load(), time.Now()
	for got < r.sent.Load() && time.Since(since) < r.c.Drain {
		time.Sleep(time.Millisecond)
		if now := r.got.Load(); now != got {
			got, since = now, time.Now()
		}
	}
}

// err joins what went wrong with the workers.
func (w *crew) err() (err error) {
	for _, x := range w.senders {
		err = errors.Join(err, x.err)
	}
	for _, x := range w.receivers {
		err = errors.Join(err, x.err)
	}
	for _, x := range w.reflectors {
		err = errors.Join(err, x.err)
	}
	return err
}
