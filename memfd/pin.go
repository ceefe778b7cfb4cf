package memfd

import (
	"fmt"
	"slices"
	"sync"

	"github.com/vhostd/vhostd/memtable"
)

// MovedError says that memory that is pinned is at another physical address than
// the one that was told: the pin came too late, or does not hold.
type MovedError struct {
	VA       memtable.VA
	Size     uint64 // bytes
	Was, Now memtable.IOVA
}

func (e *MovedError) Error() string {
	return fmt.Sprintf("%s at %v were at 0x%x and are at 0x%x, although they are pinned: "+
		"if they were pinned just now, call Arena.Recheck and try again; "+
		"else whoever pins them does not (mlock keeps memory from being swapped out, and not where it is)",
		bytesText(e.Size), e.VA, uint64(e.Was), uint64(e.Now))
}

// pins tells whether what arrives at m cannot move any more.
func pins(m memtable.Mirror) bool {
	p, ok := m.(memtable.Pinner)
	return ok && p.Pins()
}

// Pin notes that the caller keeps the n bytes at va where they are in physical
// memory: it has registered them with a device or the kernel, which holds the
// pages. mlock does not: a locked page stays in memory, and is still moved.
// Whole extents are pinned, until unpin. Released before that, they are
// quarantined (the error wraps ErrBusy), and go with the next Reclaim after it.
//
// With physical addresses it is looked once more, now that they cannot change:
// a *MovedError says that what was told until now is wrong, and notes nothing.
func (a *Arena) Pin(va memtable.VA, n uint64) (unpin func(), err error) {
	var p part
	a.locked(func() {
		if p, err = a.around(va, n); err == nil {
			p.pin(1)
		}
	})
	if err != nil {
		return nil, err
	}
	unpin = sync.OnceFunc(func() { a.locked(func() { p.pin(-1) }) })
	if err := a.verify(a.extents(p)); err != nil {
		unpin()
		return nil, err
	}
	return unpin, nil
}

// around finds the extents that have a part of a range. All must be in use.
// mu is held.
func (a *Arena) around(va memtable.VA, n uint64) (part, error) {
	c, off := a.classOf(va)
	if c == nil || n == 0 || n > uint64(len(c.mem))-off || len(c.slots) == 0 {
		return part{}, fmt.Errorf("%s at %v are no memory of this arena", bytesText(n), va)
	}
	first := int(off >> c.shift)
	p := part{c, first, int((off+n-1)>>c.shift) + 1 - first}
	for _, s := range p.slots() {
		if s.state != live {
			return part{}, fmt.Errorf("%s at %v: part of it is %v, not live", bytesText(n), va, s.state)
		}
	}
	return p, nil
}

// pin counts. Arena.mu is held.
func (p part) pin(by int) {
	for i := range p.n {
		s := &p.c.slots[p.first+i]
		s.pins += by
		s.note()
	}
}

// keepPinned quarantines p if somebody pins a part of it: at once, so that it is
// there for the Reclaim after unpin.
func (a *Arena) keepPinned(p part) (kept bool) {
	a.locked(func() {
		kept = slices.ContainsFunc(p.slots(), func(s slot) bool { return s.pins > 0 })
		if kept {
			a.move(p, quarantined)
		}
	})
	return kept
}

// verify looks whether pinned extents are where e says.
func (a *Arena) verify(e []memtable.Extent) error {
	if a.o.IOVA == IOVAAsVA {
		return nil
	}
	for _, x := range e {
		if c, _ := a.classOf(x.VA); c == nil || c.ext != nil {
			continue // its owner says where it is
		}
		pa, n, err := a.o.Resolver.Resolve(x.VA, x.Size)
		if err != nil {
			return fmt.Errorf("the physical address of pinned memory at %v: %w", x.VA, err)
		}
		if memtable.IOVA(pa) != x.Addr || n < x.Size {
			return &MovedError{VA: x.VA, Size: x.Size, Was: x.Addr, Now: memtable.IOVA(pa)}
		}
	}
	return nil
}
