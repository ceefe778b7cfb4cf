package memfd

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"os"
	"slices"
	"sync/atomic"

	"github.com/vhostd/vhostd/memtable"
)

// outside is the external memory of an arena, by address. Look-ups read the list
// without a lock; it is replaced, under Arena.mu, and never changed.
type outside struct {
	list atomic.Pointer[[]*class]
}

// all gives it by address.
func (o *outside) all() []*class {
	if list := o.list.Load(); list != nil {
		return *list
	}
	return nil
}

// find gives the external memory that an address lies in, and where there. It
// takes some steps more if there is twice as much external memory, but none for
// its pages.
func (o *outside) find(at uint64) (c *class, off uint64) {
	all := o.all()
	i, _ := slices.BinarySearchFunc(all, at, func(c *class, at uint64) int {
		return cmp.Compare(c.last(), at)
	})
	if i == len(all) || at < all[i].first {
		return nil, 0
	}
	return all[i], at - all[i].first
}

func (o *outside) has(c *class) bool { return slices.Contains(o.all(), c) }

// set puts another list in place.
func (o *outside) set(all []*class) { o.list.Store(&all) }

// last is the address of the last byte.
func (c *class) last() uint64 { return c.first + uint64(len(c.mem)) - 1 }

// meets tells whether c has one of the addresses from first to last.
func (c *class) meets(first, last uint64) bool { return first <= c.last() && c.first <= last }

// everywhere gives our own classes, and the external memory.
func (a *Arena) everywhere() []*class { return slices.Concat(a.classes, a.outside.all()) }

// newExternalClass tests what a caller says of memory, and describes it. Where it
// is contiguous for devices it is one extent, else each page is one.
func (a *Arena) newExternalClass(x *External, o ExternalOptions) (*class, error) {
	page := cmp.Or(o.Page, uint64(os.Getpagesize()))
	size := uint64(len(o.Mem))
	at := addressOf(o.Mem)
	switch {
	case size == 0:
		return nil, fmt.Errorf("no memory: %w", ErrSize)
	case page&(page-1) != 0 || page < uint64(os.Getpagesize()):
		return nil, fmt.Errorf("pages of %d bytes: %w: use a power of two that is %d or more", page, ErrMisaligned, os.Getpagesize())
	case at%page != 0 || size%page != 0:
		return nil, fmt.Errorf("%d bytes at 0x%x in pages of %s: %w", size, at, bytesText(page), ErrMisaligned)
	case o.File == nil && o.Offset != 0:
		return nil, fmt.Errorf("offset %d in no file: %w", o.Offset, ErrNoFile)
	case o.Offset < 0 || uint64(o.Offset)%page != 0:
		return nil, fmt.Errorf("offset %d in pages of %s: %w", o.Offset, bytesText(page), ErrMisaligned)
	case o.Addrs != nil && uint64(len(o.Addrs)) != size/page:
		return nil, fmt.Errorf("%d addresses for %d pages: %w", len(o.Addrs), size/page, ErrAddrs)
	case o.Addrs == nil && o.Shared && a.o.IOVA == IOVAAsPA:
		return nil, fmt.Errorf("shared memory: %w", ErrNoAddress)
	}
	c := &class{page: page, node: a.nodeOf(o.Node), unit: size, ext: x, start: o.Offset, count: new(usage),
		mem: o.Mem, first: at}
	var addrs []memtable.IOVA
	switch {
	case o.Addrs != nil:
		var err error
		if addrs, c.unit, err = c.extentsOf(o.Addrs); err != nil {
			return nil, err
		}
	case a.o.IOVA == IOVAAsVA:
		addrs = []memtable.IOVA{memtable.IOVA(at)}
	default:
		addrs = []memtable.IOVA{memtable.NoIOVA}
	}
	c.makeSlots(len(addrs))
	for i, addr := range addrs {
		if err := a.reach(addr, c.unit); err != nil {
			return nil, err
		}
		s := &c.slots[i]
		s.addr, s.node, s.owner, s.shared, s.mapped = addr, c.node, x.String(), o.Shared, true
	}
	c.shift = 63
	if len(addrs) > 1 {
		c.shift = uint8(bits.TrailingZeros64(c.unit))
	}
	c.count[free] = size
	return c, nil
}

// extentsOf gives the addresses of extents and their size, for those of pages.
func (c *class) extentsOf(pages []memtable.IOVA) (addrs []memtable.IOVA, unit uint64, err error) {
	whole := true
	for i, addr := range pages {
		// What would reach into the last page of all is none: see entry.addr.
		if uint64(addr)%c.page != 0 || uint64(addr) > math.MaxUint64&^(1<<entryBits-1)-c.page {
			return nil, 0, fmt.Errorf("the address 0x%x of page %d: %w", uint64(addr), i, ErrMisaligned)
		}
		whole = whole && uint64(addr) == uint64(pages[0])+uint64(i)*c.page
	}
	if whole && uint64(pages[0])+uint64(len(c.mem))-1 >= uint64(pages[0]) {
		return pages[:1], uint64(len(c.mem)), nil
	}
	return pages, c.page, nil
}

// include makes c a part of the arena, arriving, unless it has addresses that
// others have. Whether it has those of other memory for devices is seen when it
// is listed.
func (a *Arena) include(c *class, o ExternalOptions) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	for _, other := range a.everywhere() {
		if other.meets(c.first, c.last()) {
			return fmt.Errorf("%s at 0x%x: %w, at %v", bytesText(uint64(len(c.mem))), c.first, ErrOverlap, other.base)
		}
	}
	if err := a.reservedFor(c, o); err != nil {
		return err
	}
	id := memtable.FileID{}
	if c.file != nil {
		id = c.file.id
	}
	c.ext.hold = memtable.Wrap(c.mem, id, c.start, c.ext)
	c.base = c.ext.hold.VA()
	c.ext.class = c
	all := append(slices.Clone(a.outside.all()), c)
	slices.SortFunc(all, func(x, y *class) int { return cmp.Compare(x.first, y.first) })
	a.outside.set(all)
	a.move(c.all(), arriving)
	return nil
}

// reservedFor tests that devices find none of our reservations, mapped or not,
// where c has its addresses. mu is held.
func (a *Arena) reservedFor(c *class, o ExternalOptions) error {
	if a.o.IOVA != IOVAAsVA || o.Addrs == nil {
		return nil
	}
	for i := range c.slots {
		addr := uint64(c.slots[i].addr)
		for _, own := range a.classes {
			if own.meets(addr, addr+c.unit-1) {
				return fmt.Errorf("address 0x%x for devices: %w: the arena has its memory there", addr, ErrOverlap)
			}
		}
	}
	return nil
}

// exclude ends that c is a part of the arena. Nobody can reach it any more.
func (a *Arena) exclude(c *class) {
	a.locked(func() {
		for i := range c.slots {
			c.slots[i].mapped = false
		}
		a.outside.set(slices.DeleteFunc(slices.Clone(a.outside.all()), func(o *class) bool { return o == c }))
	})
	_ = c.ext.hold.Close() // of wrapped memory: nothing is unmapped
	if c.file != nil {
		_ = a.k.close(c.file.fd) // Linux frees the descriptor whatever it answers
	}
	a.users.known.leave(c.ext.name, c.ext)
}
