package memtable_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

const (
	swapSize = 4096
	poison   = 0xff
)

// generation is a table over memory that is full of one byte, which the table
// itself tells: the owner of its mapping.
func generation(t *testing.T, tab *table, fill byte) (next *table, mem []byte) {
	t.Helper()
	mem = make([]byte, swapSize)
	for i := range mem {
		mem[i] = fill
	}
	m := memtable.Wrap(mem, memtable.FileID{}, 0, fill)
	add := []region{{Addr: 0x1000, Size: swapSize, Mem: m}}
	var err error
	if tab == nil {
		next, err = memtable.New(add, memtable.Options{})
	} else {
		next, err = tab.With(add, tab.Regions())
	}
	if err != nil {
		t.Fatal(err)
	}
	return next, mem
}

// Control swaps tables and poisons the memory of the old one as soon as Wait
// allows, as an unmap would. No worker may ever read poison, or a byte of
// another generation than its table's. Under the race detector, the poisoning
// is also a write that must be ordered after every read.
func TestNoWorkerReadsMemoryThatWasTakenAway(t *testing.T) {
	var (
		d      memtable.Domain
		tables memtable.Cell[table]
		stop   atomic.Bool
		reads  atomic.Uint64
		wg     sync.WaitGroup
	)
	first, mem := generation(t, nil, 0)
	tables.Swap(first)
	for i := range 4 {
		r := d.Join("worker")
		wg.Go(func() {
			defer r.Close()
			for !stop.Load() {
				work(t, r, &tables, i%2 == 0)
				reads.Add(1)
				runtime.Gosched() // parked: it does not hold up Wait
			}
		})
	}
	swaps := 300
	for n := 1; n <= swaps || reads.Load() < 1000; n++ {
		next, fresh := generation(t, tables.Current(), byte(n%poison))
		tables.Swap(next)
		if err := d.Wait(t.Context()); err != nil {
			t.Error(err)
			break
		}
		for i := range mem {
			mem[i] = poison
		}
		mem = fresh
	}
	stop.Store(true)
	wg.Wait()
}

// work is one section of a few batches.
func work(t *testing.T, r *memtable.Reader, tables *memtable.Cell[table], window bool) {
	r.Enter()
	defer r.Leave()
	for batch := range 8 {
		if batch > 0 {
			r.Pass()
		}
		tab := tables.Load(r)
		want := tab.Regions()[0].Mem.Owner().(byte)
		var w memtable.Window[gpa]
		for a := gpa(0x1000); a < 0x1000+swapSize; a += 512 {
			v, ok := tab.At(a, 8)
			if window {
				v, ok = w.At(tab, a, 8)
			}
			if got := v.Bytes(8)[a>>9&7]; !ok || got != want {
				t.Errorf("read %#x (%v), the table is of %#x", got, ok, want)
				return
			}
		}
	}
}
