package virtiotest

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

// Area is a range of guest memory.
type Area struct {
	Addr memtable.GPA
	Size uint64 // bytes
}

// end is the first address behind the area.
func (a Area) end() memtable.GPA { return a.Addr + memtable.GPA(a.Size) }

// MemoryOptions says what guest memory looks like.
type MemoryOptions struct {
	Areas []Area // the regions, page aligned; nil: what [Areas] gives for 64 KiB
	File  bool   // a memfd that both sides map; else the Go heap
}

// Areas is a memory that has the cases worth testing: a region of n bytes at
// address 0, eight pages that touch in the guest but not in the host, and a
// region of 64 KiB above 4 GiB, with holes between.
func Areas(n uint64) []Area {
	areas := []Area{{0, (n + page - 1) &^ (page - 1)}}
	for i := range 8 {
		areas = append(areas, Area{0x4000_0000 + memtable.GPA(i)*page, page})
	}
	return append(areas, Area{0x1_0000_0000, 64 << 10})
}

// region is one region as the driver sees it.
type region struct {
	Area
	mem   []byte // shared with the device
	known []byte // what the driver wrote, and what it was given back
}

// Memory is a guest's memory. Its methods may be called from any goroutine;
// nothing but the atomics of the rings orders the bytes.
type Memory struct {
	table   *memtable.Table[memtable.GPA]
	regions []region // sorted
	fd      int      // of the file; -1: on the heap

	mu     sync.Mutex
	free   []Area                  // sorted, without neighbours that touch
	held   map[memtable.GPA]uint64 // what Alloc gave, with its guard
	turn   int                     // where Alloc looks first
	lent   map[Area]int            // where the device may write, and how often it was told so
	sorted []Area                  // the keys of lent, while they do not change
}

// NewMemory makes guest memory for as long as tb runs.
func NewMemory(tb testing.TB, o MemoryOptions) *Memory {
	tb.Helper()
	areas := o.Areas
	if areas == nil {
		areas = Areas(64 << 10)
	}
	areas = slices.SortedFunc(slices.Values(areas), byAddr)
	m := &Memory{fd: -1}
	back := onHeap
	if o.File {
		back = m.inFile
	}
	mappings, views := back(tb, areas)
	for i, a := range areas {
		m.regions = append(m.regions, region{a, views[i], make([]byte, a.Size)})
	}
	m.table = tableOf(tb, areas, mappings)
	m.vacant()
	return m
}

// vacant makes all memory free.
func (m *Memory) vacant() {
	m.held, m.lent = make(map[memtable.GPA]uint64), make(map[Area]int)
	for i, r := range m.regions {
		if i > 0 && m.regions[i-1].end() == r.Addr {
			m.free[len(m.free)-1].Size += r.Size
			continue
		}
		m.free = append(m.free, r.Area)
	}
}

// Clear zeroes all memory; what is allocated and lent stays so. Nobody may use
// the memory meanwhile.
func (m *Memory) Clear() {
	for _, r := range m.regions {
		clear(r.mem)
		clear(r.known)
	}
}

// Table is the device's way into the memory.
func (m *Memory) Table() *memtable.Table[memtable.GPA] { return m.table }

// find gives the region that holds address a, or nil.
func (m *Memory) find(a memtable.GPA) *region {
	for i := range m.regions {
		if r := &m.regions[i]; a >= r.Addr && uint64(a-r.Addr) < r.Size {
			return r
		}
	}
	return nil
}

// pieces calls f with each contiguous piece of n bytes at a. It panics when a
// byte of them is not there: the test asked for what it did not allocate.
func (m *Memory) pieces(a memtable.GPA, n uint64, f func(r *region, off, n uint64)) {
	for n > 0 {
		r := m.find(a)
		if r == nil {
			panic(fmt.Sprintf("virtiotest: no guest memory at %#x", uint64(a)))
		}
		off := uint64(a - r.Addr)
		k := min(n, r.Size-off)
		f(r, off, k)
		a, n = a+memtable.GPA(k), n-k
	}
}

// Write is the driver writing p to guest memory at a.
func (m *Memory) Write(a memtable.GPA, p []byte) {
	m.pieces(a, uint64(len(p)), func(r *region, off, n uint64) {
		copy(r.mem[off:], p[:n])
		copy(r.known[off:], p[:n])
		p = p[n:]
	})
}

// Read is the driver reading n bytes at a.
func (m *Memory) Read(a memtable.GPA, n uint64) []byte {
	p := make([]byte, 0, n)
	m.pieces(a, n, func(r *region, off, n uint64) { p = append(p, r.mem[off:off+n]...) })
	return p
}

// bytes is n contiguous bytes at a, as the driver sees them.
func (m *Memory) bytes(a memtable.GPA, n uint64) []byte {
	r := m.find(a)
	if r == nil || n > r.Size-uint64(a-r.Addr) {
		panic(fmt.Sprintf("virtiotest: %d bytes at %#x are not contiguous", n, uint64(a)))
	}
	return r.mem[a-r.Addr:][:n:n]
}

// Hole is an address behind the last byte of a region, where nothing is.
func (m *Memory) Hole() memtable.GPA { return m.regions[len(m.regions)-1].end() }

// Snapshot copies all memory, for [Memory.Same].
func (m *Memory) Snapshot() [][]byte {
	var s [][]byte
	for _, r := range m.regions {
		s = append(s, bytes.Clone(r.mem))
	}
	return s
}

// Same says whether no byte changed since the snapshot.
func (m *Memory) Same(snapshot [][]byte) error {
	for i, r := range m.regions {
		if at := differ(r.mem, snapshot[i]); at >= 0 {
			return fmt.Errorf("guest memory at %#x was written: %#x, was %#x", uint64(r.Addr)+uint64(at), r.mem[at], snapshot[i][at])
		}
	}
	return nil
}

// differ gives the first index at which a and b differ, or -1.
func differ(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	i := 0
	for a[i] == b[i] {
		i++
	}
	return i
}

// Changed gives the pages that are not what they were in the snapshot, by their
// first address.
func (m *Memory) Changed(snapshot [][]byte) map[memtable.GPA]bool {
	changed := make(map[memtable.GPA]bool)
	for i, r := range m.regions {
		for off := uint64(0); off < r.Size; off += page {
			end := min(off+page, r.Size)
			if !bytes.Equal(r.mem[off:end], snapshot[i][off:end]) {
				changed[(r.Addr+memtable.GPA(off))&^(page-1)] = true
			}
		}
	}
	return changed
}
