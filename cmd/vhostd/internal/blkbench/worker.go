package blkbench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/histogram"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// burst is how many requests are handed over at once.
const burst = 32

// slot is a request that may be in flight.
type slot struct {
	pieces []memtable.Buf // of one buffer: what a descriptor may have is limited
	data   []byte
	block  uint64
	kind   vblk.Type
	start  time.Time
	check  uint32 // the version that a read is to find; 0: whatever there is
}

// worker keeps a queue busy.
type worker struct {
	*run
	q      *vblk.Queue
	index  int
	first  uint64 // block of the disk
	blocks uint64 // from there on
	random *rand.Rand
	next   uint64 // block, if they come one after the other

	slots   []slot
	free    []int    // slots that may be taken
	ready   []int    // slots that are made up, and for which there was no room
	known   []uint32 // version of each block, if contents are verified; 0: nobody knows
	version uint32   // the last that was written
	busy    []uint64 // blocks in flight, a bit each, if contents are verified
	writes  int      // since the last flush
	back    bool     // reading back

	requests [burst]vblk.Request
	done     [burst]vblk.Done
	tally
	err error
}

// tally is what a worker did.
type tally struct {
	took                   time.Duration // without reading back
	read, written, flushed uint64
	failed                 uint64
	firstErr               error
	verified, wrong        uint64
	firstWrong             int64 // byte of the disk
	readTimes, writeTimes  histogram.Histogram
}

func newWorker(r *run, index int, blocks uint64, bufs []memtable.Buf) *worker {
	w := &worker{
		run: r, q: r.disk.Queue(index), index: index, first: uint64(index) * blocks, blocks: blocks,
		random: rand.New(rand.NewPCG(r.seed, uint64(index))),
	}
	limit := w.q.Limits().Size
	for i, b := range bufs {
		s := slot{data: b.VA.Bytes(r.c.Block)}
		for off := uint64(0); off < r.c.Block; off += uint64(limit) {
			n := uint32(min(uint64(limit), r.c.Block-off))
			s.pieces = append(s.pieces, memtable.Buf{VA: b.VA.Add(off), Addr: b.Addr + memtable.IOVA(off), Len: n, Cap: n})
		}
		fill(s.data, r.seed, uint64(i), 0)
		w.slots, w.free = append(w.slots, s), append(w.free, i)
	}
	w.ready = make([]int, 0, len(w.slots))
	if r.c.Verify {
		w.known, w.busy = make([]uint32, blocks), make([]uint64, (blocks+63)/64)
	}
	return w
}

// work keeps requests in flight until its turn ends or there is nothing left to
// do, and reads back what it wrote, unless all of the run ends.
func (w *worker) work(turn, all context.Context, start time.Time) {
	if w.c.Poll {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	w.turn(turn, w.choose)
	w.settle(all)
	w.took = time.Since(start)
	if w.c.Verify && w.err == nil {
		w.readBack(all)
	}
}

// turn keeps requests that choose makes up in flight, until it makes up none, or
// the worker is stopped.
func (w *worker) turn(ctx context.Context, choose func(s *slot) bool) {
	var stopped atomic.Bool // ctx has ended: cheaper to ask
	defer context.AfterFunc(ctx, func() { stopped.Store(true) })()
	more := true
	for w.err == nil {
		for more && len(w.free) > 0 && len(w.ready) < burst && !stopped.Load() {
			i := w.free[len(w.free)-1]
			if more = choose(&w.slots[i]); more {
				w.free, w.ready = w.free[:len(w.free)-1], append(w.ready, i)
			}
		}
		if !more && len(w.ready) == 0 || stopped.Load() {
			return
		}
		submitted, completed := w.submit(), w.complete()
		if submitted+completed == 0 && w.err == nil {
			w.idle(ctx)
		}
	}
}

// settle waits for what is in flight, for as long as a request may be late. What
// was made up and not lent is forgotten.
func (w *worker) settle(ctx context.Context) {
	for _, i := range w.ready {
		w.forget(&w.slots[i])
		w.release(i)
	}
	w.ready = w.ready[:0]
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.c.Late)
	defer cancel()
	for len(w.free) < len(w.slots) && w.err == nil {
		if w.complete() == 0 {
			w.idle(late)
		}
		if late.Err() != nil {
			w.err = fmt.Errorf("queue %d: %d requests did not come back in %v", w.index, len(w.slots)-len(w.free), w.c.Late)
		}
	}
}

// idle waits until something may be done, in the way that was asked for.
func (w *worker) idle(ctx context.Context) {
	if w.c.Poll {
		runtime.Gosched() // there may be more workers than processors
		return
	}
	if err := w.q.Wait(ctx); err != nil && ctx.Err() == nil {
		w.err = err
	}
}
