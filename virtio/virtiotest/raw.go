package virtiotest

import (
	"encoding/binary"

	"github.com/vhostd/vhostd/memtable"
)

// Raw writes a ring as no driver should. What it makes available the driver
// still keeps book of: it wants each head back as often as it was offered, with
// length 0, for a raw chain has no room for the device.
type Raw struct{ d *Driver }

// Raw is the hostile side of d.
func (d *Driver) Raw() Raw { return Raw{d} }

// Desc writes descriptor i of the table; i may belong to a chain that is lent.
func (r Raw) Desc(i uint16, e Desc) { r.d.setDesc(i, e) }

// DescAt writes a descriptor anywhere in guest memory.
func (r Raw) DescAt(a memtable.GPA, e Desc) { r.d.mem.Write(a, e.encode()) }

// Head writes the available ring's entry for free-running index i, beside the
// driver's books.
func (r Raw) Head(i, head uint16) { r.d.setHead(i, head) }

// Flags publishes avail.flags, with the index that was published before.
func (r Raw) Flags(flags uint16) {
	r.d.setAvail(flags, binary.LittleEndian.Uint16(r.d.known(r.d.avail.Addr+2, 2)))
}

// Chain writes list into free descriptors as it stands, and offers the first.
// A Next that is less than the length of list is an index into it, any other is
// written as it is. Areas are freed when the head comes back.
func (r Raw) Chain(list []Desc, areas ...Area) (head uint16, err error) {
	c := &chain{held: areas}
	if len(list) > len(r.d.free) || int(r.d.added-r.d.seen) >= int(r.d.Size) {
		r.d.release(c)
		return 0, ErrFull
	}
	cut := len(r.d.free) - len(list)
	c.descs = append(c.descs, r.d.free[cut:]...)
	r.d.free = r.d.free[:cut]
	for i, e := range list {
		if int(e.Next) < len(list) {
			e.Next = c.descs[e.Next]
		}
		r.d.setDesc(c.descs[i], e)
	}
	r.d.offer(c.descs[0], c)
	return c.descs[0], nil
}

// Table writes an indirect table as it stands, after skip bytes of no use.
func (r Raw) Table(skip uint64, list []Desc) (a Area, err error) {
	if a, err = r.d.mem.Alloc(skip+16*uint64(len(list)), 16); err == nil {
		for i, e := range list {
			r.d.mem.Write(a.Addr+memtable.GPA(skip)+16*memtable.GPA(i), e.encode())
		}
	}
	return a, err
}

// Buffer gives memory that nobody lends: a device that writes there is told of.
func (r Raw) Buffer(n uint64) (Area, error) { return r.d.mem.Alloc(n, 1) }

// Offer puts any head into the available ring, once more if it is there already.
func (r Raw) Offer(head uint16) {
	c := r.d.lookup(head)
	if c == nil {
		c = &chain{}
	}
	r.d.offer(head, c)
}

// Index publishes idx, whatever was added.
func (r Raw) Index(idx uint16) {
	r.d.setAvail(binary.LittleEndian.Uint16(r.d.known(r.d.avail.Addr, 2)), idx)
}

// Added is the free-running index behind the last head that was added.
func (r Raw) Added() uint16 { return r.d.added }

// Hole is an address where no memory is.
func (r Raw) Hole() memtable.GPA { return r.d.mem.Hole() }

// Size is how many descriptors the ring has.
func (r Raw) Size() uint16 { return r.d.Size }
