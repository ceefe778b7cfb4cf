package memfd

import "github.com/vhostd/vhostd/memtable"

// numberOf is for arithmetic; it never becomes a pointer again.
func numberOf(va memtable.VA) uint64 { return uint64(uintptr(va.Pointer())) }

// classOf finds the reservation that va lies in. There are as many as page
// sizes times nodes.
func (a *Arena) classOf(va memtable.VA) (c *class, off uint64) {
	at := numberOf(va)
	for _, c := range a.classes {
		if off := at - c.first; off < uint64(len(c.mem)) {
			return c, off
		}
	}
	return nil, 0
}

// Lookup gives the extent that va lies in; ok is false if nothing is mapped
// there. It takes the same time however much is mapped.
func (a *Arena) Lookup(va memtable.VA) (e memtable.Extent, ok bool) {
	c, off := a.classOf(va)
	if c == nil {
		return e, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	i := int(off / c.unit)
	if i >= len(c.slots) || !c.slots[i].mapped {
		return e, false
	}
	return part{c, i, 1}.extents()[0], true
}

// iova gives the device's address of a byte in a block, and for how many bytes
// it goes on without a break: at least to the end of the extent.
func (a *Arena) iova(va memtable.VA) (addr memtable.IOVA, n uint64, ok bool) {
	c, off := a.classOf(va)
	switch {
	case c == nil:
		return 0, 0, false
	case a.o.IOVA == IOVAAsVA:
		return memtable.IOVA(numberOf(va)), uint64(len(c.mem)) - off, true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	i, off := int(off/c.unit), off%c.unit
	if i >= len(c.slots) || !c.slots[i].mapped {
		return 0, 0, false
	}
	addr, n = c.slots[i].addr+memtable.IOVA(off), c.unit-off
	for i++; i < len(c.slots) && c.slots[i].mapped && c.slots[i].addr == addr+memtable.IOVA(n); i++ {
		n += c.unit
	}
	return addr, n, true
}
