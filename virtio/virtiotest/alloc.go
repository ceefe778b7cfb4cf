package virtiotest

import (
	"cmp"
	"errors"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// guard is what is left free behind every allocation: a device that writes past
// a buffer must not hit the next one.
const guard = 16

// ErrMemory says that guest memory has no room for a buffer.
var ErrMemory = errors.New("virtiotest: guest memory is full")

// Alloc gives n contiguous bytes aligned to align, a power of two. Every call
// begins in the next free area, so that the buffers of a chain are scattered
// over the regions.
func (m *Memory) Alloc(n, align uint64) (Area, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	mask := memtable.GPA(align - 1)
	for _, r := range m.rotated() {
		for _, f := range m.free {
			// The part of this free area that lies in this region.
			lo, hi := max(f.Addr, r.Addr), min(f.end(), r.end())
			at := (lo + mask) &^ mask
			if at+memtable.GPA(n) > hi || at < lo {
				continue
			}
			if a := (Area{at, n}); m.carve(a) {
				return a, nil
			}
		}
	}
	return Area{}, ErrMemory
}

// rotated gives the regions, another one first at each call.
func (m *Memory) rotated() []region {
	i := m.turn % len(m.regions)
	m.turn++
	return append(slices.Clone(m.regions[i:]), m.regions[:i]...)
}

// AllocAcross gives n bytes, at least 2, that cross from one region into another
// that touches it, align bytes before the boundary or a multiple of that.
func (m *Memory) AllocAcross(n, align uint64) (Area, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := max(n/2/align*align, align)
	for i := 1; i < len(m.regions); i++ {
		edge := m.regions[i].Addr
		if m.regions[i-1].end() != edge || n <= before {
			continue
		}
		if a := (Area{edge - memtable.GPA(before), n}); m.carve(a) {
			return a, nil
		}
	}
	return Area{}, ErrMemory
}

// carve takes a and its guard out of the free areas, if they are free. Where
// memory ends behind a there is no guard: the last byte is for use.
func (m *Memory) carve(a Area) bool {
	for i, f := range m.free {
		if a.Addr < f.Addr || a.end() > f.end() {
			continue
		}
		size := a.Size + guard
		if a.end()+guard > f.end() {
			if size = uint64(f.end() - a.Addr); m.find(f.end()) != nil {
				return false
			}
		}
		m.held[a.Addr] = size
		rest := a.Addr + memtable.GPA(size)
		m.free = slices.Delete(m.free, i, i+1)
		m.release(Area{f.Addr, uint64(a.Addr - f.Addr)})
		m.release(Area{rest, uint64(f.end() - rest)})
		return true
	}
	return false
}

// Free gives back what Alloc or AllocAcross gave.
func (m *Memory) Free(a Area) {
	m.mu.Lock()
	defer m.mu.Unlock()
	size, ok := m.held[a.Addr]
	if !ok {
		panic("virtiotest: memory is freed that is not held")
	}
	delete(m.held, a.Addr)
	m.release(Area{a.Addr, size})
}

// release adds a to the free areas and joins it with its neighbours.
func (m *Memory) release(a Area) {
	if a.Size == 0 {
		return
	}
	i, _ := slices.BinarySearchFunc(m.free, a, byAddr)
	m.free = slices.Insert(m.free, i, a)
	if i+1 < len(m.free) && m.free[i].end() == m.free[i+1].Addr {
		m.free[i].Size += m.free[i+1].Size
		m.free = slices.Delete(m.free, i+1, i+2)
	}
	if i > 0 && m.free[i-1].end() == m.free[i].Addr {
		m.free[i-1].Size += m.free[i].Size
		m.free = slices.Delete(m.free, i, i+1)
	}
}

func byAddr(a, b Area) int { return cmp.Compare(a.Addr, b.Addr) }
