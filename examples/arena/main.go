// Arena is memory to look at: it grows, shrinks and fragments in rounds. The
// switches of memory are those of every program that has some (memfd/memflag):
//
//	arena --inspect /tmp/mem.sock --mem-min 8M --mem-limit 64M --rounds 100
//	vhostd mem --attach /tmp/mem.sock
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os/signal"
	"syscall"
	"time"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memfd/memflag"
	"github.com/vhostd/vhostd/memtable"
)

func main() {
	log.SetFlags(0)
	var mem memflag.Flags
	mem.Register(flag.CommandLine)
	rounds := flag.Int("rounds", 0, "end after so many `rounds`; 0: at a signal")
	pause := flag.Duration("pause", time.Second, "between two rounds")
	seed := flag.Uint64("seed", 1, "the same seed does the same again")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &mem, *rounds, *pause, *seed); err != nil {
		log.Fatal("arena: ", err)
	}
}

// run makes the arena and what lives in it, and gives all of it back at the end.
func run(ctx context.Context, mem *memflag.Flags, rounds int, pause time.Duration, seed uint64) (err error) {
	o, err := mem.Options()
	if err != nil {
		return err
	}
	// Little extents that do not stay for long: there is more to see.
	o.Name, o.Extent, o.Linger = "demo", 128<<10, pause/4
	a, err := memfd.New(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	if mem.Inspect != "" {
		i, err := memfd.ServeInspect(mem.Inspect)
		if err != nil {
			return err
		}
		defer i.Close()
		fmt.Printf("look: vhostd mem --attach %s\n", mem.Inspect)
	}
	ring, err := a.Zone(ctx, "ring", memfd.ZoneOptions{Size: 64 << 10, Node: memfd.AnyNode})
	if err != nil {
		return err
	}
	defer ring.Free()
	frames, err := a.Pool(ctx, "frames", memfd.PoolOptions{Size: 2048, Count: 512, Resident: 512, Node: memfd.AnyNode})
	if err != nil {
		return err
	}
	defer frames.Close()
	var all []*tenant
	for _, shared := range []bool{true, false} {
		name := map[bool]string{true: "packets", false: "tables"}[shared]
		h, err := a.Heap(name, memfd.HeapOptions{Shared: shared, Node: memfd.AnyNode})
		if err != nil {
			return err
		}
		t := &tenant{heap: h, r: rand.New(rand.NewPCG(seed, uint64(len(all))))}
		defer t.leave()
		all = append(all, t)
	}
	for n := 1; (rounds == 0 || n <= rounds) && ctx.Err() == nil; n++ {
		for _, t := range all {
			t.live(ctx, n)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return nil
}

// tenant fills a heap and empties it again.
type tenant struct {
	heap *memfd.Heap
	r    *rand.Rand
	held []memtable.Buf
}

// live allocates in two rounds of three, mostly little and sometimes much, and
// frees at random in the third: that scatters what is left.
func (t *tenant) live(ctx context.Context, round int) {
	what := "grows"
	if round%3 == 0 {
		what = "frees"
		t.r.Shuffle(len(t.held), func(i, j int) { t.held[i], t.held[j] = t.held[j], t.held[i] })
		for range len(t.held) * 2 / 3 {
			t.free()
		}
	}
	for size := uint64(0); what == "grows" && size < 8<<20; {
		n := 64 + t.r.Uint64N(1<<(8+t.r.Uint64N(11)))
		b, err := t.heap.Alloc(ctx, n, 0)
		if err != nil {
			what = "is full: " + err.Error()
			break
		}
		t.held = append(t.held, b)
		size += n
	}
	s := t.heap.Stats()
	fmt.Printf("round %d: %s %s: %d allocations, %d of %d KiB used\n", round, t.heap.Name(), what, s.Allocations, s.Used>>10, s.Mapped>>10)
}

// free gives back the last buffer.
func (t *tenant) free() {
	last := len(t.held) - 1
	if err := t.heap.Free(t.held[last]); err != nil {
		log.Print(err) // cannot be: it was lent and is given back once
	}
	t.held = t.held[:last]
}

// leave gives everything back.
func (t *tenant) leave() {
	for len(t.held) > 0 {
		t.free()
	}
}
