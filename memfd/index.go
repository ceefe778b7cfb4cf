package memfd

import (
	"math"

	"github.com/vhostd/vhostd/memtable"
)

// entry is what look-ups by VA know of an extent, in one word, so that they need
// no lock: it is written under Arena.mu and read at any time. The address of an
// extent is a multiple of the system's page size, which leaves its low bits for
// the rest.
type entry uint64

const (
	present entry = 1 << iota // it is mapped, and its address is known
	pinned
	shared

	nodeBit   = 3 // from here on: 0, or the NUMA node and one
	entryBits = 12
	mostNodes = 1<<(entryBits-nodeBit) - 1
)

// entry tells of a slot as it is now. Arena.mu is held.
func (s *slot) entry() entry {
	e := entry(s.addr) &^ (1<<entryBits - 1)
	if s.listed {
		e |= present
	}
	if s.pins > 0 {
		e |= pinned
	}
	if s.shared {
		e |= shared
	}
	if s.node >= 0 && s.node < mostNodes {
		e |= entry(s.node+1) << nodeBit
	}
	return e
}

// addr is NoIOVA where it is the last page of all, which external memory that
// has an address never has.
func (e entry) addr() memtable.IOVA {
	const none = math.MaxUint64 &^ (1<<entryBits - 1)
	if e &= none; e == none {
		return memtable.NoIOVA
	}
	return memtable.IOVA(e)
}

func (e entry) node() int { return int(e>>nodeBit&mostNodes) - 1 }

// note lets look-ups see the slot as it is now. Arena.mu is held.
func (s *slot) note() { s.seen.Store(uint64(s.entry())) }

// extent tells of extent i, which has e and lies in f.
func (c *class) extent(i uint64, e entry, f *file) memtable.Extent {
	x := memtable.Extent{
		VA: c.base.Add(i << c.shift), Addr: e.addr(), Size: c.unit,
		FD: -1, Offset: c.inFile(int(i)),
		Page: c.page, Node: e.node(), Tag: Private, Pinned: e&pinned != 0,
	}
	if f != nil {
		x.File, x.FD = f.id, f.fd
	}
	if e&shared != 0 {
		x.Tag = Shared
	}
	return x
}

// setFile is for who holds both locks.
func (c *class) setFile(f *file) {
	c.file = f
	c.shown.Store(f)
}
