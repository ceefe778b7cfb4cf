package memfd

import "github.com/vhostd/vhostd/memtable"

// numberOf is for arithmetic; it never becomes a pointer again.
func numberOf(va memtable.VA) uint64 { return uint64(uintptr(va.Pointer())) }

// offsetOf gives where in the reservation va lies.
func (c *class) offsetOf(va memtable.VA) uint64 { return numberOf(va) - c.first }

// classOf finds the reservation or the external memory that va lies in. Of our
// own there are as many as page sizes times nodes.
func (a *Arena) classOf(va memtable.VA) (c *class, off uint64) {
	at := numberOf(va)
	for _, c := range a.classes {
		if off := at - c.first; off < uint64(len(c.mem)) {
			return c, off
		}
	}
	return a.outside.find(at)
}

// Lookup gives the extent that va lies in; ok is false if nothing is mapped
// there, reserved or not. It takes no lock, and the same short time however much
// is mapped. What it tells may have changed when the caller reads it, unless the
// caller holds the memory.
func (a *Arena) Lookup(va memtable.VA) (e memtable.Extent, ok bool) {
	c, off := a.classOf(va)
	if c == nil {
		return e, false
	}
	for i := off >> c.shift; ; {
		f := c.shown.Load()
		now := entry(c.index[i].Load())
		if now&present == 0 {
			return e, false
		}
		// A file that was there before and after was there in between.
		if f == c.shown.Load() {
			return c.extent(i, now, f), true
		}
	}
}

// Addr gives the device's address of a byte of ours, and for how many bytes it
// goes on: to the end of the extent, behind which one may ask again. ok is false
// where nothing is mapped. It reads the record that was made as the memory was
// mapped (see Recheck), takes no lock and always the same time.
func (a *Arena) Addr(va memtable.VA) (addr memtable.IOVA, n uint64, ok bool) {
	c, off := a.classOf(va)
	if c == nil {
		return 0, 0, false
	}
	i := off >> c.shift
	now := entry(c.index[i].Load())
	in := off - i<<c.shift
	addr = now.addr()
	return addr + memtable.IOVA(in), c.unit - in, now&present != 0 && addr != memtable.NoIOVA
}

// iova is Addr with n to where the addresses of neighbours do not follow one
// another any more. Where the device's address is ours that is the whole
// reservation, for whoever has a block to its end.
func (a *Arena) iova(va memtable.VA) (addr memtable.IOVA, n uint64, ok bool) {
	addr, n, ok = a.Addr(va)
	c, off := a.classOf(va)
	switch {
	case !ok:
		return 0, 0, false
	case a.o.IOVA == IOVAAsVA && c.ext == nil:
		return addr, uint64(len(c.mem)) - off, true
	}
	for i := off>>c.shift + 1; i < uint64(len(c.index)); i++ {
		next := entry(c.index[i].Load())
		if next&present == 0 || next.addr() != addr+memtable.IOVA(n) {
			break
		}
		n += c.unit
	}
	return addr, n, true
}
