package virtiotest

import (
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Shape says how the buffers of a chain are described.
type Shape uint8

// The shapes. The indirect ones need INDIRECT_DESC.
const (
	Chained Shape = iota // a descriptor for each buffer, linked by next
	Table                // one descriptor that names a table of all
	Tail                 // the first buffer has a descriptor, at the chain's end a table has the others
)

// Request is one chain to be made.
type Request struct {
	Out [][]byte // what the device reads, a buffer each
	In  []int    // the sizes of the buffers it writes; they are filled with 0xee
	Shape
	Across bool // buffers and tables cross region boundaries, as far as there are some
}

// Fresh is what a buffer for writing holds before the device writes.
const Fresh = 0xee

// Add makes a chain, which the next Publish makes available. When there is no
// room for it the error is [ErrFull] or [ErrMemory], and nothing changed.
func (d *Driver) Add(r Request) (head uint16, err error) {
	c := &chain{}
	list, err := d.buffers(c, r)
	if err == nil {
		head, err = d.describe(c, list, r)
	}
	if err != nil {
		d.release(c)
		return 0, err
	}
	d.offer(head, c)
	return head, nil
}

// offer notes c under its head and puts the head into the available ring.
func (d *Driver) offer(head uint16, c *chain) {
	if head < d.Size {
		d.chain[head] = c
	}
	c.times++
	d.setHead(d.added, head)
	d.added++
}

// head reads back the available ring's entry at free-running index i.
func (d *Driver) head(i uint16) uint16 {
	b := d.known(d.avail.Addr+4+2*memtable.GPA(i&(d.Size-1)), 2)
	return uint16(b[0]) | uint16(b[1])<<8
}

// buffers allocates and fills the buffers of a chain.
func (d *Driver) buffers(c *chain, r Request) (list []Desc, err error) {
	get := func(n int, flags uint16) (Area, error) {
		a, err := d.alloc(c, uint64(n), 1, r.Across)
		list = append(list, Desc{Addr: a.Addr, Len: uint32(n), Flags: flags})
		return a, err
	}
	for _, p := range r.Out {
		a, err := get(len(p), 0)
		if err != nil {
			return nil, err
		}
		d.mem.Write(a.Addr, p)
		c.out = append(c.out, a)
	}
	for _, n := range r.In {
		a, err := get(n, Write)
		if err != nil {
			return nil, err
		}
		d.lendFresh(c, a)
	}
	return list, nil
}

// alloc gets memory that c holds.
func (d *Driver) alloc(c *chain, n, align uint64, across bool) (a Area, err error) {
	if n == 0 {
		return Area{}, nil
	}
	err = ErrMemory
	if across {
		a, err = d.mem.AllocAcross(n, align)
	}
	if err != nil {
		a, err = d.mem.Alloc(n, align)
	}
	if err == nil {
		c.held = append(c.held, a)
	}
	return a, err
}

// lendFresh fills a and lets the device write there.
func (d *Driver) lendFresh(c *chain, a Area) {
	fill := make([]byte, a.Size)
	for i := range fill {
		fill[i] = Fresh
	}
	d.mem.Write(a.Addr, fill)
	d.mem.Lend(a)
	c.in = append(c.in, a)
	c.room += a.Size
}

// describe writes the descriptors of a chain and gives its head.
func (d *Driver) describe(c *chain, list []Desc, r Request) (uint16, error) {
	if !d.Features.Has(virtio.FeatureIndirect) {
		r.Shape = Chained
	}
	if len(list) > int(d.Size) { // virtio 1.2, 2.7.5.3.1: tables count too
		return 0, ErrFull
	}
	switch {
	case r.Shape == Table:
		t, err := d.table(c, list, r.Across)
		if err != nil {
			return 0, err
		}
		list = []Desc{t}
	case r.Shape == Tail && len(list) > 1:
		t, err := d.table(c, list[1:], r.Across)
		if err != nil {
			return 0, err
		}
		list = []Desc{list[0], t}
	}
	return d.link(c, list)
}

// table writes an indirect table and gives the descriptor that names it.
func (d *Driver) table(c *chain, list []Desc, across bool) (Desc, error) {
	a, err := d.alloc(c, 16*uint64(len(list)), 8, across)
	if err != nil {
		return Desc{}, err
	}
	for i, e := range list {
		if i+1 < len(list) {
			e.Flags, e.Next = e.Flags|Next, uint16(i+1)
		}
		d.mem.Write(a.Addr+16*memtable.GPA(i), e.encode())
	}
	return Desc{Addr: a.Addr, Len: uint32(a.Size), Flags: Indirect}, nil
}

// link writes list into free descriptors, one after the other.
func (d *Driver) link(c *chain, list []Desc) (uint16, error) {
	if len(list) > len(d.free) || int(d.added-d.seen) >= int(d.Size) {
		return 0, ErrFull
	}
	cut := len(d.free) - len(list)
	c.descs = append(c.descs, d.free[cut:]...)
	d.free = d.free[:cut]
	for i, e := range list {
		if i+1 < len(list) {
			e.Flags, e.Next = e.Flags|Next, c.descs[i+1]
		}
		d.setDesc(c.descs[i], e)
	}
	return c.descs[0], nil
}
