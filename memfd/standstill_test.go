package memfd

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memtable"
)

// together runs workers to their ends, and disturb again and again until then.
// Where no worker makes a step for long, it ends the process and shows what everybody waits for:
// how fast it goes does not matter.
func together(t *testing.T, workers []func(step func()), disturb func()) {
	t.Helper()
	const long = time.Minute
	var steps atomic.Int64
	step := func() { steps.Add(1) }
	var work, rest sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for _, w := range workers {
		work.Go(func() { w(step) })
	}
	rest.Go(func() {
		for ctx.Err() == nil {
			disturb()
		}
	})
	done := make(chan struct{})
	go func() {
		work.Wait()
		cancel()
		rest.Wait()
		close(done)
	}()
	for seen := int64(-1); ; {
		select {
		case <-done:
			return
		case <-time.After(long):
			if now := steps.Load(); now != seen {
				seen = now
				continue
			}
			debug.SetTraceback("all")
			panic(fmt.Sprintf("nobody has made a step for %v", long))
		}
	}
}

// hustle is an arena whose heap and pool grow and shrink all the time.
type hustle struct {
	a    *Arena
	heap *Heap
	pool *Pool
}

func newHustle(t *testing.T) *hustle {
	o := small()
	o.Name, o.Space = "hustle", 16<<20
	s := &hustle{a: opened(t, linux{}, o)}
	var err error
	if s.heap, err = s.a.Heap("heap", HeapOptions{Shared: true}); err == nil {
		s.pool, err = s.a.Pool(t.Context(), "pool", PoolOptions{Size: 2048, Count: 1, Resident: 1})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// workers grow and shrink everything so many times.
func (s *hustle) workers(t *testing.T, rounds int) []func(step func()) {
	repeat := func(do func() error) func(step func()) {
		return func(step func()) {
			for range rounds {
				err := do()
				if _, held := errors.AsType[*QuarantineError](err); err != nil && !held {
					t.Error(err)
					return
				}
				step()
			}
		}
	}
	return []func(step func()){
		repeat(func() error {
			b, err := s.heap.AllocZero(t.Context(), 40<<10, 0)
			if err == nil {
				err = s.heap.Free(b)
			}
			s.heap.store.sweep()
			s.heap.store.sweep()
			return err
		}),
		repeat(func() error {
			err := s.pool.Grow(t.Context(), 20)
			_, gone := s.pool.Shrink(t.Context(), 1<<20)
			return errors.Join(err, gone)
		}),
		repeat(func() error {
			b, err := s.a.grow(t.Context(), growth{owner: "bare", size: 33 << 10, node: AnyNode, shared: true})
			if err == nil {
				err = s.a.release(t.Context(), b.VA, b.Size)
			}
			return err
		}),
	}
}

// look looks at everything there is to look at.
func (s *hustle) look(va memtable.VA) {
	s.heap.Stats()
	s.pool.Stats()
	s.a.Layout()
	s.a.Runs()
	s.a.Zones()
	s.a.Lookup(va)
	s.a.ByIOVA(nil).At(memtable.IOVA(numberOf(va)), 1)
	for range s.a.Walk() {
	}
}

func TestNobodyStandsStillWhileMemoryComesAndGoes(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	for name, disturb := range map[string]func(t *testing.T, s *hustle) func(){
		"stats and walks": func(_ *testing.T, s *hustle) func() {
			return func() { s.look(s.a.Extents()[0].VA) }
		},
		"callbacks that look and (un)register": func(t *testing.T, s *hustle) func() {
			watch(t, s.a, func(e Event) {
				s.look(e.Extents[0].VA)
				watch(t, s.a, func(Event) {})()
			})
			return func() {
				remove, err := s.a.Validate("looks", AnyNode, func(Growth) error { s.look(memtable.VA{}); return nil })
				if err != nil {
					t.Error(err)
					return
				}
				remove()
			}
		},
		"mirrors that look, come and go": func(t *testing.T, s *hustle) func() {
			return func() {
				w := newWitness(s.a)
				w.arrive = func(_ context.Context, e []memtable.Extent) { s.look(e[0].VA) }
				stop, err := s.a.Follow(t.Context(), w)
				if err == nil {
					err = stop(t.Context())
				}
				if err = errors.Join(err, w.check()); err != nil {
					t.Error(err)
				}
			}
		},
		"reclaiming what a mirror held on to": func(t *testing.T, s *hustle) func() {
			w, _ := followed(t, s.a)
			return func() {
				w.holdOn.Store(true)
				_ = s.a.Reclaim(t.Context())
				w.holdOn.Store(false)
				if err := s.a.Reclaim(t.Context()); err != nil {
					t.Error(err)
				}
			}
		},
		"zones and other heaps": func(t *testing.T, s *hustle) func() {
			return func() {
				z, err := s.a.Zone(t.Context(), "zone", ZoneOptions{Size: 20 << 10})
				if err == nil {
					err = z.Free()
				}
				h, made := s.a.Heap("another", HeapOptions{})
				if made == nil {
					made = h.Close()
				}
				if err := errors.Join(err, made); err != nil {
					t.Error(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newHustle(t)
			together(t, s.workers(t, rounds), disturb(t, s))
			if st := s.pool.Stats(); st.Count != st.Resident || st.Lent != 0 {
				t.Errorf("%+v", st)
			}
			err := s.a.Reclaim(t.Context())
			if err := errors.Join(err, audit(s.heap.store), s.heap.Close(), s.pool.Close()); err != nil {
				t.Error(err)
			}
			if n := len(s.a.Extents()); n != 0 && name != "zones and other heaps" {
				t.Errorf("%d extents are left", n)
			}
		})
	}
}
