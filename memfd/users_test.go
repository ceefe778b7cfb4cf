package memfd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/vhostd/vhostd/memtable"
)

// estate is an arena with one user of each kind, used at random: each system
// call that an operation makes fails once before it succeeds.
type estate struct {
	k       *saboteur
	a       *Arena
	heap    *Heap
	pool    *Pool
	cache   *Cache
	bufs    []memtable.Buf // of the heap
	lent    []memtable.Buf // of the pool
	zones   []*Zone
	names   int
	mirrors []*witness
	stops   []func(context.Context) error
}

// newEstate has a minimum of so many bytes.
func newEstate(t *rapid.T, o Options, floor uint64) *estate {
	if floor > 0 {
		o.Minimum = map[int]uint64{AnyNode: floor}
	}
	s := &estate{k: new(saboteur)}
	var err error
	if s.a, err = newArena(s.k, o); err != nil {
		t.Fatal(err)
	}
	if s.heap, err = s.a.Heap("heap", HeapOptions{Shared: rapid.Bool().Draw(t, "shared")}); err != nil {
		t.Fatal(err)
	}
	if s.pool, err = s.a.Pool(context.Background(), "pool", PoolOptions{Size: 1500, Count: 4, Cache: 4}); err != nil {
		t.Fatal(err)
	}
	s.cache = s.pool.Cache()
	return s
}

// snapshot is the world and the books of all users.
type snapshot struct {
	World world
	Heap  HeapStats
	Pool  PoolStats
	Zones string
}

func (s *estate) snapshot(t *rapid.T, tb testing.TB) snapshot {
	shot := snapshot{World: look(tb, s.a, s.mirrors...), Heap: s.heap.Stats(), Pool: s.pool.Stats()}
	if len(s.a.o.Minimum) > 0 {
		// As much is kept as before, but not always in the same place.
		shot.World.Layout, shot.World.Maps, shot.World.Table = "", nil, ""
	}
	for _, z := range s.a.Zones() {
		shot.Zones += fmt.Sprintf("%s at %v;", z.Name, z.VA)
	}
	if err := audit(s.heap.store); err != nil {
		t.Fatal(err)
	}
	return shot
}

// try has an operation fail at its first system call, its second and so on,
// until it meets no failure. Each time all is as it was.
func (s *estate) try(t *rapid.T, tb testing.TB, what string, do func() error) error {
	errno := rapid.SampledFrom([]error{unix.ENOMEM, unix.ENOSPC, unix.EPERM}).Draw(t, "errno")
	before := s.snapshot(t, tb)
	if n := len(s.mirrors); n > 0 {
		// Who refuses is one of them, and the others have to let go.
		m := s.mirrors[rapid.IntRange(0, n-1).Draw(t, "refuses")]
		m.refuse.Store(true)
		err := do()
		m.refuse.Store(false)
		if err == nil {
			return nil // it had no need to grow
		}
		s.unchanged(t, tb, before, what+" that a mirror refused")
	}
	for k := 1; ; k++ {
		s.k.arm(errno, k)
		err := do()
		hits := s.k.failed()
		s.k.arm(nil)
		if len(hits) == 0 {
			return err
		}
		if err == nil {
			t.Fatalf("%s: %v failed, and nobody was told", what, hits)
		}
		s.unchanged(t, tb, before, fmt.Sprintf("%s at which %v failed", what, hits))
	}
}

func (s *estate) unchanged(t *rapid.T, tb testing.TB, before snapshot, after string) {
	if diff := cmp.Diff(before, s.snapshot(t, tb)); diff != "" {
		t.Fatalf("after a %s:\n%s", after, diff)
	}
}

// give has an operation fail that gives memory back: it is done all the same,
// and what could not be taken back is quarantined until it can.
func (s *estate) give(t *rapid.T, do func()) {
	s.k.arm(unix.ENOMEM, rapid.IntRange(1, 4).Draw(t, "call that fails"))
	do()
	s.k.arm(nil)
	if err := s.a.Reclaim(context.Background()); err != nil {
		t.Fatal("reclaiming in peace:", err)
	}
}

func isShort(err error) bool {
	_, short := errors.AsType[*ShortageError](err)
	return short
}

func (s *estate) alloc(tb testing.TB) func(*rapid.T) {
	return func(t *rapid.T) {
		size := rapid.Uint64Range(1, 3*s.a.classes[0].unit/2).Draw(t, "size")
		var b memtable.Buf
		err := s.try(t, tb, "allocation", func() (err error) {
			b, err = s.heap.AllocZero(context.Background(), size, 64)
			return err
		})
		if isShort(err) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(b.VA.Bytes(uint64(b.Cap)), []byte{0}) != int(b.Cap) {
			t.Fatal("it is not zero")
		}
		dirty(b.VA, uint64(b.Cap))
		s.bufs = append(s.bufs, b)
	}
}

func dirty(va memtable.VA, n uint64) {
	mem := va.Bytes(n)
	for i := range mem {
		mem[i] = 0xa5
	}
}

func (s *estate) zone(tb testing.TB) func(*rapid.T) {
	return func(t *rapid.T) {
		o := ZoneOptions{Size: rapid.Uint64Range(1, s.a.classes[0].unit).Draw(t, "size"), Contiguous: true}
		s.names++
		var z *Zone
		err := s.try(t, tb, "zone", func() (err error) {
			z, err = s.a.Zone(context.Background(), fmt.Sprint(s.names), o)
			return err
		})
		if isShort(err) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(z.VA.Bytes(z.Size), []byte{0}) != int(z.Size) {
			t.Fatal("a zone is not zero")
		}
		dirty(z.VA, z.Size)
		s.zones = append(s.zones, z)
	}
}

func (s *estate) more(tb testing.TB) func(*rapid.T) {
	return func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "buffers")
		err := s.try(t, tb, "growth of a pool", func() error { return s.pool.Grow(context.Background(), n) })
		if err != nil && !isShort(err) {
			t.Fatal(err)
		}
		room := make([]memtable.Buf, rapid.IntRange(0, 6).Draw(t, "lent"))
		for _, b := range room[:s.cache.Get(room)] {
			dirty(b.VA, uint64(b.Cap))
			s.lent = append(s.lent, b)
		}
	}
}

// less frees some of everything, and sweeps.
func (s *estate) less(t *rapid.T) {
	s.give(t, func() {
		if n := len(s.bufs); n > 0 {
			i := rapid.IntRange(0, n-1).Draw(t, "buffer")
			if err := s.heap.Free(s.bufs[i]); err != nil {
				t.Fatal(err)
			}
			s.bufs = append(s.bufs[:i], s.bufs[i+1:]...)
		}
		if n := len(s.zones); n > 0 {
			if err := s.zones[n-1].Free(); err != nil {
				t.Fatal(err)
			}
			s.zones = s.zones[:n-1]
		}
		n := rapid.IntRange(0, len(s.lent)).Draw(t, "put")
		s.cache.Put(s.lent[:n])
		s.lent = s.lent[n:]
		s.sweep()
	})
}

// sweep lets time pass: what is vacant goes.
func (s *estate) sweep() {
	for range 2 {
		s.heap.store.sweep()
		if zones := s.a.users.zones.strict; zones != nil {
			zones.sweep()
		}
	}
}

// shrink takes the buffers that are not lent. What cannot be unmapped is gone
// all the same.
func (s *estate) shrink(t *rapid.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // it waits for nobody
	s.give(t, func() {
		_, err := s.pool.Shrink(ctx, 1<<20)
		if _, kept := errors.AsType[*QuarantineError](err); err != nil && !kept && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}
