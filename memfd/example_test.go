package memfd_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
)

// An arena costs address space, and memory only as its users need it.
func Example() {
	ctx := context.Background()
	a, err := memfd.New(memfd.Options{NoHuge: true, Limit: map[int]uint64{memfd.AnyNode: 4 << 20}})
	if err != nil {
		log.Fatal(err)
	}
	h, err := a.Heap("tables", memfd.HeapOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("at the start:", len(a.Extents()), "extents")
	b, err := h.Alloc(ctx, 3<<20, 0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("with 3 MiB in use:", len(a.Extents()), "extents")
	_, err = h.Alloc(ctx, 3<<20, 0)
	if short, ok := errors.AsType[*memfd.ShortageError](err); ok {
		fmt.Println("3 MiB more:", short.What, "is the matter")
	}
	if err := errors.Join(h.Free(b), a.Close()); err != nil {
		log.Fatal(err)
	}
	fmt.Println("closed")
	// Output:
	// at the start: 0 extents
	// with 3 MiB in use: 2 extents
	// 3 MiB more: the limit is the matter
	// closed
}

// A heap lends memory of any size. What it knows of a buffer is not in it.
func ExampleArena_Heap() {
	ctx := context.Background()
	a, err := memfd.New(memfd.Options{NoHuge: true})
	if err != nil {
		log.Fatal(err)
	}
	h, err := a.Heap("names", memfd.HeapOptions{Shared: true, Hint: 2 << 20})
	if err != nil {
		log.Fatal(err)
	}
	b, err := h.AllocZero(ctx, 100, 256)
	if err != nil {
		log.Fatal(err)
	}
	copy(b.VA.Bytes(uint64(b.Len)), "hello")
	if b, err = h.Realloc(ctx, b, 1000, 256); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, and %d bytes of room\n", b.VA.Bytes(5), b.Len)
	fmt.Println(h.Free(b))
	fmt.Println(errors.Is(h.Free(b), memfd.ErrFreed))
	if err := a.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// hello, and 1000 bytes of room
	// <nil>
	// true
}

// A zone is found by its name.
func ExampleArena_Zone() {
	a, err := memfd.New(memfd.Options{NoHuge: true})
	if err != nil {
		log.Fatal(err)
	}
	z, err := a.Zone(context.Background(), "ring 0", memfd.ZoneOptions{Size: 4000, Align: 4096, Contiguous: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(a.FindZone("ring 0") == z, z.Size, uint64(z.Addr)%4096)
	if err := errors.Join(z.Free(), a.Close()); err != nil {
		log.Fatal(err)
	}
	// Output: true 4032 0
}

// Workers take buffers of a pool, each by a cache of its own.
func ExampleArena_Pool() {
	ctx := context.Background()
	a, err := memfd.New(memfd.Options{NoHuge: true})
	if err != nil {
		log.Fatal(err)
	}
	p, err := a.Pool(ctx, "packets", memfd.PoolOptions{Size: 2048, Count: 1024})
	if err != nil {
		log.Fatal(err)
	}
	c := p.Cache()
	burst := make([]memtable.Buf, 32)
	n := c.Get(burst)
	fmt.Println("lent:", n, "of", p.Stats().Count)
	c.Put(burst[:n])
	c.Put(burst[:1])
	fmt.Println("refused:", p.Stats().Refused)
	c.Close()
	if err := errors.Join(p.Grow(ctx, 1024), a.Close()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// lent: 32 of 1024
	// refused: 1
}

// teller is a mirror: here it prints, and elsewhere it tells a device or a peer.
type teller struct{}

func (teller) Arrive(_ context.Context, e []memtable.Extent) error {
	fmt.Println("arrive:", len(e), "of", e[0].Size>>20, "MiB, from offset", e[0].Offset)
	return nil // an error would refuse them, and the arena would not grow
}

func (teller) Leave(_ context.Context, e []memtable.Extent) error {
	fmt.Println("leave:", len(e))
	return nil
}

// A mirror hears of memory before anybody can use it, and lets go of it before
// it is unmapped.
func ExampleArena_Follow() {
	ctx := context.Background()
	a, err := memfd.New(memfd.Options{NoHuge: true})
	if err != nil {
		log.Fatal(err)
	}
	stop, err := a.Follow(ctx, teller{})
	if err != nil {
		log.Fatal(err)
	}
	z, err := a.Zone(ctx, "shared", memfd.ZoneOptions{Size: 5 << 20})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the zone is there")
	if err := errors.Join(z.Free(), stop(ctx), a.Close()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// arrive: 3 of 2 MiB, from offset 0
	// the zone is there
	// leave: 3
}
