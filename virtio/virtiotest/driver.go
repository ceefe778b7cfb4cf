package virtiotest

import (
	"errors"
	"fmt"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// DriverOptions says what ring a driver makes.
type DriverOptions struct {
	Size     uint16          // descriptors, a power of two; 0: 8
	Features virtio.Features // what was negotiated
	Start    uint16          // where both indices begin, to meet their wrap sooner
	OddAvail bool            // the available ring is aligned to 2 bytes only
}

// Driver is the driver's side of one virtqueue. Its methods are for one
// goroutine, which need not be the device's.
type Driver struct {
	DriverOptions
	rings
	mem *Memory

	free  []uint16 // descriptors, the next one last
	chain []*chain // by head: what is lent
	queue []uint16 // heads in the order of their availability, IN_ORDER's order

	added     uint16 // avail.idx to come
	published uint16 // avail.idx as the device sees it
	seen      uint16 // used elements reaped
	quiet     uint16 // avail.flags
}

// chain is what the driver remembers of a head until it comes back.
type chain struct {
	descs     []uint16
	held      []Area // buffers and tables, to be freed
	out       []Area // for the device to read
	in        []Area // for the device to write
	room      uint64 // bytes in all of in
	published bool
	times     int // how often it was made available: a hostile driver repeats itself
}

// ErrFull says that the ring has too few free descriptors for a chain.
var ErrFull = errors.New("virtiotest: the ring is full")

// NewDriver lays a ring into m.
func NewDriver(m *Memory, o DriverOptions) (*Driver, error) {
	if o.Size == 0 {
		o.Size = 8
	}
	r, err := place(m, o.Size, o.OddAvail)
	if err != nil {
		return nil, fmt.Errorf("a ring of %d: %w", o.Size, err)
	}
	d := &Driver{DriverOptions: o, rings: r, mem: m}
	m.Lend(r.used)
	d.Restart(o.Start)
	return d, nil
}

// Restart forgets all chains, as a driver does that resets its device, and
// begins again with both indices at start. The device must have let go.
func (d *Driver) Restart(start uint16) {
	for _, c := range d.chain {
		if c != nil {
			d.release(c)
		}
	}
	d.Start, d.added, d.published, d.seen, d.quiet = start, start, start, start, 0
	d.chain, d.queue, d.free = make([]*chain, d.Size), d.queue[:0], d.free[:0]
	for i := d.Size; i > 0; i-- {
		d.free = append(d.free, i-1)
	}
	clear(d.mem.bytes(d.used.Addr, d.used.Size))
	d.setUsed(start)
	d.setAvail(0, start)
	d.SetUsedEvent(start)
}

// Ring is the ring as the device is told of it.
func (d *Driver) Ring() virtio.Ring { return d.split() }

// UsedAddr is the guest address of the used ring: what the dirty log is told.
func (d *Driver) UsedAddr() memtable.GPA { return d.used.Addr }

// Free is how many descriptors are free.
func (d *Driver) Free() int { return len(d.free) }

// Lent is how many chains the driver has made and not got back.
func (d *Driver) Lent() int { return len(d.queue) + int(d.added-d.published) }

// Waiting is how many published used elements have not been reaped.
func (d *Driver) Waiting() int {
	_, idx := d.usedWord()
	return int(idx - d.seen)
}

// release gives back all that a chain holds.
func (d *Driver) release(c *chain) {
	for _, a := range c.in {
		d.mem.TakeBack(a)
	}
	for _, a := range c.held {
		d.mem.Free(a)
	}
	d.free = append(d.free, c.descs...)
}

// Publish makes all that was added available, and says whether the device wants
// a kick for it (virtio 1.2, 2.7.13.3 and 2.7.13.4.1).
func (d *Driver) Publish() (kick bool) {
	old := d.published
	if d.added == old {
		return false
	}
	for i := old; i != d.added; i++ {
		head := d.head(i)
		if c := d.lookup(head); c != nil {
			c.published = true
		}
		d.queue = append(d.queue, head)
	}
	d.published = d.added
	d.setAvail(d.quiet, d.published)
	if d.Features.Has(virtio.FeatureEventIdx) {
		return passed(d.availEvent(), d.published, old)
	}
	flags, _ := d.usedWord()
	return flags&noNotify == 0
}

// lookup is the chain lent under head, or nil.
func (d *Driver) lookup(head uint16) *chain {
	if head >= d.Size {
		return nil
	}
	return d.chain[head]
}

// passed says whether an index that ran from old to now left event behind it,
// by the specification's words: "if the next index is event+1, notify".
func passed(event, now, old uint16) bool {
	return int(event-old) < int(now-old)
}

// EnableCalls asks for a call with the next used element, and says whether there
// are some already: those the device need not tell of.
func (d *Driver) EnableCalls() (more bool) {
	d.quiet = 0
	if d.Features.Has(virtio.FeatureEventIdx) {
		d.SetUsedEvent(d.seen)
	} else {
		d.setAvail(0, d.published)
	}
	return d.Waiting() > 0
}

// DisableCalls asks for no calls. With EVENT_IDX there is no flag: the event is
// put as far away as it goes.
func (d *Driver) DisableCalls() {
	if d.Features.Has(virtio.FeatureEventIdx) {
		d.SetUsedEvent(d.seen - 1)
		return
	}
	d.quiet = noInterrupt
	d.setAvail(noInterrupt, d.published)
}

// WantsCall says whether the device must call when it moves the used index from
// old to now: what [virtio.Queue.Publish] is held to.
func (d *Driver) WantsCall(now, old uint16) bool {
	if !d.Features.Has(virtio.FeatureEventIdx) {
		return d.quiet&noInterrupt == 0
	}
	event := d.known(d.avail.Addr+4+2*memtable.GPA(d.Size), 2)
	return now != old && passed(uint16(event[0])|uint16(event[1])<<8, now, old)
}
