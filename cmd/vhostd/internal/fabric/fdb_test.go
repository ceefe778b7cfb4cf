package fabric

import (
	"sync"
	"testing"
	"time"
)

func addr(n int) mac { return mac(0x020000000000 + uint64(n)) }

func TestAddressesAreLearnedMovedAndAged(t *testing.T) {
	f := newFDB(64, 10*time.Second)
	f.learn(addr(1), 3, 100)
	if slot, ok := f.lookup(addr(1), 110); !ok || slot != 3 {
		t.Fatalf("after 10 s: slot %d, known %v", slot, ok)
	}
	if _, ok := f.lookup(addr(1), 111); ok {
		t.Fatal("known after 11 s")
	}
	f.learn(addr(1), 5, 111)
	if slot, ok := f.lookup(addr(1), 111); !ok || slot != 5 || len(f.list(111)) != 1 {
		t.Fatalf("moved: slot %d, known %v, list %v", slot, ok, f.list(111))
	}
	f.forget(5)
	if _, ok := f.lookup(addr(1), 111); ok || f.size != 0 || f.ports[5] != 0 {
		t.Fatal("known after its port was forgotten")
	}
}

// TestAnAddressSeenByAClockAheadIsNew: workers read the clock once a turn, so one
// may be a second behind another.
func TestAnAddressSeenByAClockAheadIsNew(t *testing.T) {
	f := newFDB(1, 10*time.Second)
	f.learn(addr(1), 3, 101)
	if slot, ok := f.lookup(addr(1), 100); !ok || slot != 3 {
		t.Errorf("slot %d, known %v", slot, ok)
	}
	if all := f.list(100); len(all) != 1 || all[0].age != 0 {
		t.Errorf("listed as %+v", all)
	}
	f.learn(addr(2), 3, 100) // looks for what is aged
	if _, ok := f.lookup(addr(1), 101); !ok {
		t.Error("it was taken for aged")
	}
}

func TestOnePortCannotFillTheTable(t *testing.T) {
	f := newFDB(64, 300*time.Second)
	for i := range 10000 {
		f.learn(addr(i), 0, 1)
	}
	if n := f.ports[0]; n > 64/perPort {
		t.Fatalf("one port holds %d of 64 places", n)
	}
	f.learn(addr(20000), 1, 1)
	if slot, ok := f.lookup(addr(20000), 1); !ok || slot != 1 {
		t.Fatal("a neighbour's address found no place")
	}
	// What is aged makes room.
	for i := range 16 {
		f.learn(addr(30000+i), 0, 1000)
	}
	if n := len(f.list(1000)); n < 12 {
		t.Fatalf("%d of 16 new addresses found a place after the old ones aged", n)
	}
}

func TestLookupsDuringChangesSeeWholePlaces(t *testing.T) {
	f := newFDB(256, time.Hour)
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range 5000 {
				f.learn(addr(i%97), (w+i)%4, uint32(i))
				if i%100 == 0 {
					f.forget(i / 100 % 4)
				}
			}
		})
	}
	for i := range 20000 {
		if slot, ok := f.lookup(addr(i%97), 5000); ok && (slot < 0 || slot > 3) {
			t.Fatalf("slot %d", slot)
		}
	}
	wg.Wait()
	total := 0
	for _, n := range f.ports {
		total += n
	}
	if f.size != total || f.size != len(f.list(5000)) {
		t.Fatalf("size %d, by port %d, listed %d", f.size, total, len(f.list(5000)))
	}
}
