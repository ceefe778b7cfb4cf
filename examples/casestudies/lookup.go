package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// lookup is a line of the first study.
type lookup struct {
	Pages  int     `json:"pages"`
	Page   uint64  `json:"page"`   // bytes
	Linear float64 `json:"linear"` // frames/s
	Ours   float64 `json:"ours"`   // frames/s
	Index  string  `json:"index"`
	Bytes  uint64  `json:"bytes"` // of the index
}

func lookups() (all []lookup, err error) {
	for _, page := range []uint64{4 << 10, 2 << 20} {
		for _, pages := range []int{64, 512, 4096, 65_536} {
			l := lookup{Pages: pages, Page: page}
			if err := l.measure(); err != nil {
				return nil, fmt.Errorf("%d pages of %s: %w", pages, size(page), err)
			}
			all = append(all, l)
		}
	}
	return all, nil
}

// ring is how many frames a device has filled.
const ring = 1024

// measure lets a driver find the frames of a ring both ways, and tests that it
// finds the same.
func (l *lookup) measure() error {
	mem, err := unix.Mmap(-1, 0, l.Pages*int(l.Page), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return err
	}
	defer unix.Munmap(mem)
	m := memtable.Wrap(mem, memtable.FileID{}, 0, "the case study")
	defer m.Close()
	// Physical memory is in another order than what a process sees of it.
	rng := rand.New(rand.NewPCG(1, 2))
	regions := make([]memtable.Region[memtable.PA], l.Pages)
	for i, j := range rng.Perm(l.Pages) {
		regions[i] = memtable.Region[memtable.PA]{Addr: memtable.PA(1<<32 + uint64(j)*l.Page), Size: l.Page, Mem: m, Skip: uint64(i) * l.Page}
	}
	table, err := memtable.New(regions, memtable.Options{})
	if err != nil {
		return err
	}
	info := table.Index()
	l.Index, l.Bytes = info.Kind, info.Bytes
	frames := make([]memtable.PA, ring)
	for i := range frames {
		frames[i] = regions[rng.IntN(l.Pages)].Addr + memtable.PA(rng.Uint64N(l.Page/2048)*2048)
	}
	for _, f := range frames {
		if a, ok := table.At(f, 2048); !ok || a != scan(regions, f) {
			return errors.New("the two ways do not find the same")
		}
	}
	l.Linear = speed(frames, func(f memtable.PA) bool { return !scan(regions, f).IsNil() })
	l.Ours = speed(frames, func(f memtable.PA) bool { _, ok := table.At(f, 2048); return ok })
	if l.Linear == 0 || l.Ours == 0 {
		return errors.New("a frame was not found")
	}
	return nil
}

// scan walks all pages until one has the address: what DPDK's
// rte_mem_iova2virt does.
func scan(regions []memtable.Region[memtable.PA], a memtable.PA) memtable.VA {
	for i := range regions {
		if r := &regions[i]; a >= r.Addr && uint64(a-r.Addr) < r.Size {
			return r.Mem.VA().Add(r.Skip + uint64(a-r.Addr))
		}
	}
	return memtable.VA{}
}

// speed gives frames/s of the fastest of some slices of time: in the others
// something else had the core. It is 0 if a frame is not found.
func speed(frames []memtable.PA, find func(memtable.PA) bool) (most float64) {
	const slice = 20 * time.Millisecond
	const batch = 32
	for next := range 10 {
		n, start, took := 0, time.Now(), time.Duration(0)
		for took < slice {
			for i := range batch {
				if !find(frames[(next*batch+n+i)%ring]) {
					return 0
				}
			}
			n += batch
			took = time.Since(start)
		}
		most = max(most, float64(n)/took.Seconds())
	}
	return most
}
