package virtiotest

import (
	"fmt"
	"slices"

	"github.com/vhostd/vhostd/virtio"
)

// Used is a chain that came back.
type Used struct {
	Head uint16
	Len  uint32   // bytes written, as the device says
	In   [][]byte // the buffers for writing, whole
}

// Data is what the device wrote: the first Len bytes of the buffers.
func (u Used) Data() []byte {
	var p []byte
	for _, b := range u.In {
		p = append(p, b...)
	}
	return p[:u.Len]
}

// Reap gives the next chain that came back; ok is false when there is none. An
// error says what the device must not have done; the driver is of no more use.
func (d *Driver) Reap() (u Used, ok bool, err error) {
	_, idx := d.usedWord()
	if n := int(idx - d.seen); n > len(d.queue) {
		return u, false, fmt.Errorf("used.idx %d is %d beyond the %d reaped, but %d chains are available", idx, n, d.seen, len(d.queue))
	}
	if idx == d.seen {
		return u, false, nil
	}
	id, n := d.usedElem(d.seen)
	c, err := d.check(id, n)
	if err != nil {
		return u, false, fmt.Errorf("used element %d {id %d, len %d}: %w", d.seen, id, n, err)
	}
	d.seen++
	u = Used{Head: uint16(id), Len: n}
	for _, a := range c.in {
		u.In = append(u.In, d.mem.Read(a.Addr, a.Size))
	}
	d.returned(uint16(id), c)
	return u, true, nil
}

// check holds a used element to what a device owes.
func (d *Driver) check(id, n uint32) (*chain, error) {
	if id >= uint32(d.Size) {
		return nil, fmt.Errorf("no head: the ring has %d descriptors", d.Size)
	}
	c := d.chain[id]
	switch {
	case c == nil:
		return nil, fmt.Errorf("that head is not lent")
	case !c.published:
		return nil, fmt.Errorf("that head is not available yet")
	case uint64(n) > c.room:
		return nil, fmt.Errorf("only %d bytes were writable", c.room)
	case d.Features.Has(virtio.FeatureInOrder) && uint16(id) != d.queue[0]:
		return nil, fmt.Errorf("out of order: head %d is next", d.queue[0])
	}
	return c, nil
}

// returned takes a head off the books.
func (d *Driver) returned(head uint16, c *chain) {
	if i := slices.Index(d.queue, head); i == 0 {
		d.queue = d.queue[1:] // the usual case, and cheap
	} else if i > 0 {
		d.queue = slices.Delete(d.queue, i, i+1)
	}
	if c.times--; c.times == 0 {
		d.chain[head] = nil
		d.release(c)
	}
}
