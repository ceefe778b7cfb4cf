package main

import (
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// lookups finds addresses in tables of pages, each of which is a region of its
// own: in another order for devices than they have here, as physical memory is.
// The pages are address space without memory. Nothing reads them.
type lookups struct {
	pages uint64
	raw   []byte
	mem   *memtable.Mapping
	table *memtable.Table[memtable.IOVA]
	at    []memtable.IOVA // of each page
}

// indexBytes bounds the index as an arena does.
const indexBytes = 64 << 20

// expose makes the table.
func (l *lookups) expose(n uint64) (err error) {
	if l.pages == n {
		return nil
	}
	if l.raw != nil {
		_ = l.mem.Close()
		_ = unix.Munmap(l.raw)
		*l = lookups{}
	}
	l.raw, err = unix.Mmap(-1, 0, int(n*page), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("address space for %d pages: %w", n, err)
	}
	l.mem = memtable.Wrap(l.raw, memtable.FileID{}, 0, nil)
	l.at = make([]memtable.IOVA, n)
	regions := make([]memtable.Region[memtable.IOVA], n)
	for i, j := range rand.New(rand.NewPCG(1, 2)).Perm(int(n)) {
		l.at[i] = 1<<40 + memtable.IOVA(j)*page
		regions[i] = memtable.Region[memtable.IOVA]{Addr: l.at[i], Size: page, Mem: l.mem, Skip: uint64(i) * page}
	}
	l.table, err = memtable.New(regions, memtable.Options{IndexBytes: indexBytes})
	l.pages = n
	return err
}

// answer gives ns for a look-up: "PAGES seq|rand".
func (l *lookups) answer(q *question) (float64, error) {
	if err := l.expose(max(q.number(), 1)); err != nil {
		return 0, err
	}
	ask := make([]memtable.IOVA, 4096)
	rng, sequential := rand.New(rand.NewPCG(3, 4)), q.word() == "seq"
	size := l.pages * page
	for i := range ask {
		at := rng.Uint64N(size/2048) * 2048
		if sequential {
			// From the first page to the last one.
			at = size / uint64(len(ask)) * uint64(i)
		}
		ask[i] = l.at[at/page] + memtable.IOVA(at%page)
	}
	table := l.table
	return timed(true, func() (int, error) {
		found := 0
		for _, a := range ask {
			if _, ok := table.At(a, 64); ok {
				found++
			}
		}
		if found != len(ask) {
			return 0, fmt.Errorf("%d of %d look-ups found nothing", len(ask)-found, len(ask))
		}
		return found, nil
	})
}
