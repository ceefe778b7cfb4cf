package fabric

import (
	"hash/maphash"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// mac is an Ethernet address in the low 48 bits, first byte highest.
type mac uint64

const (
	macMask   = 1<<48 - 1
	groupBit  = 1 << 40 // of the first byte
	ways      = 8       // addresses that share a bucket
	perPort   = 4       // one port may fill 1/perPort of the table
	slotShift = 48
)

func macOf(b []byte) mac {
	_ = b[5]
	return mac(b[0])<<40 | mac(b[1])<<32 | mac(b[2])<<24 | mac(b[3])<<16 | mac(b[4])<<8 | mac(b[5])
}

func (m mac) group() bool { return m&groupBit != 0 }

func (m mac) hardware() net.HardwareAddr {
	return net.HardwareAddr{byte(m >> 40), byte(m >> 32), byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}
}

// fdb is the forwarding database: which address was last seen at which port.
// Look-ups take no lock. Its size is fixed, an address has a handful of places
// to be, and the choice is seeded, so that a hostile port can neither grow it
// nor aim at a neighbour's bucket; it may fill a part of the table only.
type fdb struct {
	buckets []bucket
	seed    maphash.Seed
	age     int32 // seconds

	mu    sync.Mutex // for all that writes a place's key
	limit int
	size  int
	ports map[int]int // places per slot
	swept uint32      // when aged addresses were looked for
}

type bucket [ways]place

// place holds an address and the slot of its port, or zero.
type place struct {
	key  atomic.Uint64 // slot+1 << slotShift | mac
	seen atomic.Uint32 // seconds on the switch's clock
}

// old is how many seconds ago the address was seen. Workers read the clock once
// a turn, so that another one may have seen it after now: that is 0.
func (p *place) old(now uint32) int32 { return max(0, int32(now-p.seen.Load())) }

func newFDB(limit int, age time.Duration) *fdb {
	n := 1
	for n*ways < 2*limit {
		n *= 2
	}
	return &fdb{
		buckets: make([]bucket, n), seed: maphash.MakeSeed(), age: int32(min(age/time.Second, math.MaxInt32)),
		limit: limit, ports: make(map[int]int),
	}
}

func (f *fdb) bucket(m mac) *bucket {
	return &f.buckets[maphash.Comparable(f.seed, uint64(m))&uint64(len(f.buckets)-1)]
}

// lookup gives the slot that m was seen at; aged addresses are unknown.
func (f *fdb) lookup(m mac, now uint32) (slot int, ok bool) {
	b := f.bucket(m)
	for i := range b {
		if key := b[i].key.Load(); key != 0 && mac(key&macMask) == m {
			return int(key>>slotShift) - 1, b[i].old(now) <= f.age
		}
	}
	return 0, false
}

// learn notes that m was seen at slot. Where there is no room the address stays
// unknown, and its frames are flooded.
func (f *fdb) learn(m mac, slot int, now uint32) {
	want := uint64(slot+1)<<slotShift | uint64(m)
	b := f.bucket(m)
	for i := range b {
		if b[i].key.Load() == want {
			if b[i].seen.Load() != now {
				b[i].seen.Store(now)
			}
			return
		}
	}
	f.insert(b, m, want, slot, now)
}

func (f *fdb) insert(b *bucket, m mac, want uint64, slot int, now uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var free *place
	for i := range b {
		p := &b[i]
		key := p.key.Load()
		if key != 0 && mac(key&macMask) == m { // it moved here from another port
			f.clear(p)
			key = 0
		}
		if key != 0 && p.old(now) > f.age {
			f.clear(p)
			key = 0
		}
		if key == 0 && free == nil {
			free = p
		}
	}
	if f.full(slot) && f.swept != now { // once a second: a walk is not for each frame
		f.swept = now
		f.sweep(func(p *place) bool { return p.old(now) > f.age })
	}
	if free == nil || f.full(slot) {
		return
	}
	free.seen.Store(now)
	free.key.Store(want)
	f.size++
	f.ports[slot]++
}

// full says whether the table, or the port's part of it, is.
func (f *fdb) full(slot int) bool {
	return f.size >= f.limit || f.ports[slot] >= max(1, f.limit/perPort)
}

// clear empties a place. With the lock.
func (f *fdb) clear(p *place) {
	key := p.key.Swap(0)
	f.size--
	f.ports[int(key>>slotShift)-1]--
}

// sweep empties the places that gone says are. With the lock.
func (f *fdb) sweep(gone func(*place) bool) {
	for i := range f.buckets {
		for j := range f.buckets[i] {
			if p := &f.buckets[i][j]; p.key.Load() != 0 && gone(p) {
				f.clear(p)
			}
		}
	}
}

// forget empties what was learned at slot.
func (f *fdb) forget(slot int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sweep(func(p *place) bool { return int(p.key.Load()>>slotShift)-1 == slot })
}

// entry is one address as list gives it.
type entry struct {
	mac  mac
	slot int
	age  int32
}

// list gives all addresses that are not aged.
func (f *fdb) list(now uint32) []entry {
	var all []entry
	for i := range f.buckets {
		for j := range f.buckets[i] {
			p := &f.buckets[i][j]
			key, age := p.key.Load(), p.old(now)
			if key != 0 && age <= f.age {
				all = append(all, entry{mac(key & macMask), int(key>>slotShift) - 1, age})
			}
		}
	}
	return all
}
