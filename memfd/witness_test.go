package memfd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vhostd/vhostd/memtable"
)

var (
	errRefused = errors.New("the mirror does not want it")
	errHeld    = errors.New("the mirror does not let go")
)

// witness is a mirror that believes nothing: it notes everything that a source
// must not do. It looks at the arena from within, as a mirror may.
type witness struct {
	a              *Arena
	refuse, holdOn atomic.Bool
	arrive         func(ctx context.Context, e []memtable.Extent) // if set, is called in Arrive
	leave          func()                                         // if set, is called in Leave

	busy atomic.Bool

	mu     sync.Mutex
	known  map[uint64]memtable.Extent
	faults []error
}

func newWitness(a *Arena) *witness {
	return &witness{a: a, known: make(map[uint64]memtable.Extent)}
}

func (w *witness) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Errorf(format, args...))
}

func (w *witness) enter() func() {
	if w.busy.Swap(true) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.fault("two calls at the same time")
	}
	return func() { w.busy.Store(false) }
}

func (w *witness) Arrive(ctx context.Context, e []memtable.Extent) error {
	defer w.enter()()
	if w.arrive != nil {
		w.arrive(ctx, e)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse.Load() {
		return errRefused
	}
	for i, x := range e {
		if found, ok := w.a.Lookup(x.VA); !ok || found.File != x.File || found.Offset != x.Offset {
			w.fault("extent at %v arrives, and a look-up does not find it", x.VA)
		}
		if _, ok := w.known[numberOf(x.VA)]; ok {
			w.fault("extent at %v arrives twice", x.VA)
		}
		if x.FD < 0 || x.Tag != Shared || i > 0 && x.File == e[i-1].File && x.Offset <= e[i-1].Offset {
			w.fault("extent at %v: fd %d, tag %q, or not in order", x.VA, x.FD, x.Tag)
		}
		w.known[numberOf(x.VA)] = x
	}
	return nil
}

func (w *witness) Leave(_ context.Context, e []memtable.Extent) error {
	defer w.enter()()
	if w.leave != nil {
		w.leave()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range e {
		was, ok := w.known[numberOf(x.VA)]
		if !ok || was != x {
			w.fault("extent at %v leaves as %+v, and was %+v", x.VA, x, was)
		}
		if _, ok := w.a.Lookup(x.VA); !ok {
			w.fault("extent at %v leaves and is not mapped any more", x.VA)
		}
	}
	if w.holdOn.Load() {
		return errHeld
	}
	for _, x := range e {
		delete(w.known, numberOf(x.VA))
	}
	return nil
}

// check gives what was wrong.
func (w *witness) check() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.faults...)
}

// addresses gives what the mirror can reach.
func (w *witness) addresses() []uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []uint64
	for at := range w.known {
		all = append(all, at)
	}
	slices.Sort(all)
	return all
}

func (w *witness) String() string { return fmt.Sprintf("%x", w.addresses()) }
