package virtiotest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// Lend lets the device write to a, until it is taken back as often as it was
// lent.
func (m *Memory) Lend(a Area) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lent[a]++
	m.sorted = nil
}

// TakeBack ends what Lend began. What the device wrote is what the driver has
// now.
func (m *Memory) TakeBack(a Area) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.lent[a] {
	case 0:
		panic("virtiotest: memory is taken back that was not lent")
	case 1:
		delete(m.lent, a)
		m.sorted = nil
	default:
		m.lent[a]--
	}
	m.pieces(a.Addr, a.Size, func(r *region, off, n uint64) { copy(r.known[off:off+n], r.mem[off:]) })
}

// Verify says where the device wrote outside of what was lent to it: contract
// of the device, nothing is written outside writable descriptors.
func (m *Memory) Verify() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sorted == nil {
		m.sorted = slices.SortedFunc(maps.Keys(m.lent), byAddr)
	}
	at := memtable.GPA(0) // all before is done with
	for _, a := range m.sorted {
		if a.Addr > at {
			if err := m.compare(at, a.Addr); err != nil {
				return err
			}
		}
		at = max(at, a.end())
	}
	return m.compare(at, m.regions[len(m.regions)-1].end())
}

// compare looks at the memory from lo to hi.
func (m *Memory) compare(lo, hi memtable.GPA) error {
	for _, r := range m.regions {
		from, to := max(lo, r.Addr), min(hi, r.end())
		if from >= to {
			continue
		}
		mem, known := r.mem[from-r.Addr:to-r.Addr], r.known[from-r.Addr:to-r.Addr]
		if i := differ(mem, known); i >= 0 {
			return fmt.Errorf("the device wrote %#x at guest address %#x, which was not lent to it", mem[i], uint64(from)+uint64(i))
		}
	}
	return nil
}
