package memtable

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"
)

// Domain knows when no worker can hold a pointer any more that it loaded
// before. Its epoch counts the waits; each worker shows, in its [Reader], the
// epoch in which it last was between two batches. The zero Domain is ready.
type Domain struct {
	_     cpu.CacheLinePad
	epoch atomic.Uint64 // read by all workers, written only by Wait
	_     cpu.CacheLinePad

	mu      sync.Mutex
	readers []*Reader
}

// Reader is one worker's place in a [Domain]. One goroutine uses it at a time.
//
// A section is not nested: Enter, any number of Pass, Leave. Leave comes before
// anything that can block, because [Domain.Wait] waits for it.
type Reader struct {
	_     cpu.CacheLinePad // written at every batch: share the line with nobody
	state atomic.Uint64    // 0: outside; else 1 + the epoch it was stored in
	_     cpu.CacheLinePad

	domain *Domain
	name   string
	owner  any
}

// Join makes a reader, which is outside. Nobody is to blame when it is late.
func (d *Domain) Join(name string) *Reader { return d.JoinFor(nil, name) }

// JoinFor makes a reader, which is outside and works for owner: a pointer, or
// nil. Owner and name are told by [LateError].
func (d *Domain) JoinFor(owner any, name string) *Reader {
	r := &Reader{domain: d, name: name, owner: owner}
	d.mu.Lock()
	d.readers = append(d.readers, r)
	d.mu.Unlock()
	return r
}

// Enter begins a section: from here on, what is loaded from a [Cell] stays.
//
// Go's atomics are sequentially consistent, so no later load can be done before
// the store. If Wait did not see the store, this worker sees what was swapped
// before that Wait.
func (r *Reader) Enter() { r.state.Store(r.domain.epoch.Load() + 1) }

// Pass is the end of one batch and the beginning of the next: nothing loaded
// before it may be used after it. It costs a store only if somebody waits.
func (r *Reader) Pass() {
	if e := r.domain.epoch.Load() + 1; r.state.Load() != e {
		r.state.Store(e)
	}
}

// Leave ends the section.
func (r *Reader) Leave() { r.state.Store(0) }

// Close takes the reader out of its domain; nobody waits for it any more.
func (r *Reader) Close() {
	r.Leave()
	d := r.domain
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readers = slices.DeleteFunc(d.readers, func(o *Reader) bool { return o == r })
}

// Wait returns once every reader that was inside at the call has passed, left
// or closed. Readers that enter later do not matter. If ctx ends before, Wait
// returns a *[LateError], and what was swapped away must not be touched: it may
// be in use. Several goroutines may wait at once.
func (d *Domain) Wait(ctx context.Context) error {
	epoch := d.epoch.Add(1)
	d.mu.Lock()
	late := slices.Clone(d.readers)
	d.mu.Unlock()

	var pause backoff
	defer pause.stop()
	for {
		late = slices.DeleteFunc(late, func(r *Reader) bool {
			s := r.state.Load()
			return s == 0 || s > epoch
		})
		if len(late) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return newLateError(late, context.Cause(ctx))
		}
		pause.wait(ctx)
	}
}

// backoff waits a little longer each time: a batch takes microseconds, so first
// it only yields; a worker that takes longer must not cost a CPU.
type backoff struct {
	turns int
	timer *time.Timer
}

const (
	yields   = 32 // turns before the first sleep
	napFirst = 10 * time.Microsecond
	napLast  = time.Millisecond
)

func (b *backoff) wait(ctx context.Context) {
	b.turns++
	if b.turns <= yields {
		runtime.Gosched()
		return
	}
	nap := napFirst << min(b.turns-yields-1, 10)
	nap = min(nap, napLast)
	if b.timer == nil {
		b.timer = time.NewTimer(nap)
	} else {
		b.timer.Reset(nap)
	}
	select {
	case <-b.timer.C:
	case <-ctx.Done():
	}
}

func (b *backoff) stop() {
	if b.timer != nil {
		b.timer.Stop()
	}
}

// LateError names the workers that did not come to a batch boundary in time.
type LateError struct {
	Readers []string // their names, sorted
	Owners  []any    // for whom they work, as given to JoinFor, each once
	Err     error    // why the wait ended
}

func newLateError(late []*Reader, cause error) *LateError {
	e := &LateError{Err: cause}
	for _, r := range late {
		e.Readers = append(e.Readers, r.name)
		if r.owner != nil && !slices.Contains(e.Owners, r.owner) {
			e.Owners = append(e.Owners, r.owner)
		}
	}
	slices.Sort(e.Readers)
	return e
}

func (e *LateError) Error() string {
	return fmt.Sprintf("workers still hold memory that was taken away: %s: %v", strings.Join(e.Readers, ", "), e.Err)
}

func (e *LateError) Unwrap() error { return e.Err }
