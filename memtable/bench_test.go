package memtable_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

// scattered makes n segments of size bytes, which follow each other in address
// and are shuffled here, as physical memory is.
func scattered(n int, size uint64) []region {
	regions := make([]region, n)
	inSlab := slabSize / size
	for i, j := range rand.New(rand.NewPCG(1, 2)).Perm(n) {
		regions[i] = region{Addr: gpa(uint64(i) * size), Size: size, Mem: slabs()[0], Skip: uint64(j) % inSlab * size}
	}
	return regions
}

// questions are addresses of buffers of 2 KiB: random in a part of the span
// that caches hold, and random in all of it.
func questions(span, within uint64) []gpa {
	list := make([]gpa, 4096)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range list {
		list[i] = gpa(rng.Uint64N(min(span, within)/2048) * 2048)
	}
	return list
}

var sink memtable.VA

func BenchmarkLookUp(b *testing.B) {
	for _, n := range []int{1, 8, 64, 512, 32_768, 1_000_000} {
		size := uint64(2 << 20)
		if n > 512 {
			size = 4096 // 128 MiB and 4 GB
		}
		regions := scattered(n, size)
		for _, pattern := range []string{"hot", "rand"} {
			within := map[string]uint64{"hot": 8 << 20, "rand": 1 << 62}[pattern]
			ask := questions(uint64(n)*size, within)
			for _, kind := range []string{"flat", "two-level", "search", "window", "linear"} {
				b.Run(fmt.Sprintf("%d/%s/%s", n, pattern, kind), func(b *testing.B) { benchmark(b, regions, ask, kind) })
			}
		}
	}
}

func benchmark(b *testing.B, regions []region, ask []gpa, kind string) {
	bytes := map[string]int{"flat": 1 << 30, "two-level": 64 << 20}[kind]
	switch kind {
	case "two-level":
		// One region far away is what makes a flat index too big.
		regions = append(regions[:len(regions):len(regions)], region{Addr: gpa(regions[0].Size << 23), Size: regions[0].Size, Mem: slabs()[1]})
	case "search", "window":
		bytes = -1
	}
	tab := build(b, regions, memtable.Options{IndexBytes: bytes})
	if got := tab.Index().Kind; kind != "window" && kind != "linear" && got != kind {
		b.Fatalf("the index is %q", got)
	}
	var w memtable.Window[gpa]
	var i int
	for b.Loop() {
		a := ask[i&(len(ask)-1)]
		i++
		switch kind {
		case "window":
			sink, _ = w.At(tab, a, 64)
		case "linear":
			sink, _ = reference(regions).at(a, 64)
		default:
			sink, _ = tab.At(a, 64)
		}
	}
}

// BenchmarkPublish is what a table costs to make, and to change by one region.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{8, 512, 32_768} {
		regions := scattered(n, 2<<20)
		b.Run(fmt.Sprintf("new/%d", n), func(b *testing.B) {
			for b.Loop() {
				build(b, regions, memtable.Options{})
			}
		})
		b.Run(fmt.Sprintf("with/%d", n), func(b *testing.B) {
			tab := build(b, regions[1:], memtable.Options{})
			for b.Loop() {
				if _, err := tab.With(regions[:1], nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSection(b *testing.B) {
	var d memtable.Domain
	r := d.Join("worker")
	b.Run("pass", func(b *testing.B) {
		r.Enter()
		defer r.Leave()
		for b.Loop() {
			r.Pass()
		}
	})
	b.Run("enter and leave", func(b *testing.B) {
		for b.Loop() {
			r.Enter()
			r.Leave()
		}
	})
}
