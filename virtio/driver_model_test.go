package virtio_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// The model of a driver's queue: what is lent, in plain lists, and what a used
// ring means, by the words of the specification. It reads the ring as bytes.

// lent is a chain as the model knows it.
type lent struct {
	head  uint16
	descs []uint16     // of the ring
	room  int          // bytes the device may write
	back  memtable.Buf // how it must come back, but for Len
	out   []memtable.Buf
	in    []memtable.Buf
}

// ledger is all that the model knows of a queue.
type ledger struct {
	ring     virtio.Ring
	features virtio.Features
	slots    int
	tables   memtable.Buf

	free     []uint16 // descriptors, the next one first
	added    []*lent  // not published
	avail    []*lent  // published, in order
	availIdx uint16   // as published
	reaped   uint16   // used elements taken
	batch    []*lent  // IN_ORDER: known to be used and not reaped, but the last
	batchLen uint32   // of the last
	broken   error
}

func newLedger(b *bus, slots int) *ledger {
	m := &ledger{ring: b.ring(), features: b.o.Features, slots: slots, tables: b.o.Indirect}
	m.reset(uint16(b.o.Placement.Position))
	return m
}

func (m *ledger) reset(start uint16) {
	m.free, m.added, m.avail, m.batch, m.broken = nil, nil, nil, nil, nil
	for i := range m.ring.Size {
		m.free = append(m.free, i)
	}
	m.availIdx, m.reaped = start, start
}

// add is AddBurst with one buffer, or Add. ok says whether there is room.
func (m *ledger) add(out, in []memtable.Buf, back memtable.Buf) (ok bool) {
	c := &lent{back: back, out: slices.Clone(out), in: slices.Clone(in)}
	descs := len(out) + len(in)
	if m.features.Has(virtio.FeatureIndirect) && descs > 1 && descs <= min(m.slots, int(m.ring.Size)) {
		descs = 1
	}
	if m.broken != nil || descs > len(m.free) {
		return false
	}
	for _, b := range in {
		c.room += int(b.Cap)
	}
	c.head, c.descs = m.free[0], m.free[:descs]
	m.free = m.free[descs:]
	m.added = append(m.added, c)
	return true
}

func (m *ledger) publish() {
	if m.broken == nil {
		m.availIdx += uint16(len(m.added))
		m.avail, m.added = append(m.avail, m.added...), nil
	}
}

func (m *ledger) usedIdx() uint16 { return binary.LittleEndian.Uint16(m.ring.Used[2:]) }

func (m *ledger) element(i uint16) (id, n uint32) {
	e := m.ring.Used[4+8*int(i&(m.ring.Size-1)):]
	return binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:])
}

// reap says what up to k used elements give back, from the ring as it is now.
func (m *ledger) reap(k int) (back []memtable.Buf) {
	if m.broken != nil {
		return nil
	}
	waiting := int(m.usedIdx() - m.reaped)
	if waiting > len(m.avail) {
		m.broken = virtio.ErrUsedIndex
		return nil
	}
	for range min(k, waiting) {
		c, n, err := m.next(waiting - len(back))
		if err == nil && int(n) > c.room {
			err = virtio.ErrUsedLen
		}
		if err != nil {
			m.broken = err
			return back
		}
		m.avail = slices.DeleteFunc(m.avail, func(o *lent) bool { return o == c })
		m.reaped++
		m.free = slices.Concat(m.free, c.descs)
		c.back.Len = n
		back = append(back, c.back)
	}
	return back
}

// next is the chain that comes back next, and how much was written to it. So
// many used elements are published and not reaped.
func (m *ledger) next(waiting int) (c *lent, n uint32, err error) {
	if len(m.batch) == 0 {
		id, n, err := m.lookup()
		if err != nil {
			return nil, 0, err
		}
		if !m.features.Has(virtio.FeatureInOrder) {
			return m.avail[id], n, nil
		}
		if id >= waiting {
			return nil, 0, virtio.ErrOrder
		}
		if int(n) > m.avail[id].room { // then nothing of the element is believed
			return nil, 0, virtio.ErrUsedLen
		}
		m.batch, m.batchLen = slices.Clone(m.avail[:id+1]), n
	}
	c, m.batch = m.batch[0], m.batch[1:]
	if len(m.batch) > 0 {
		return c, uint32(c.room), nil
	}
	return c, m.batchLen, nil
}

// lookup finds the chain that the next element names, by its place in avail.
func (m *ledger) lookup() (i int, n uint32, err error) {
	id, n := m.element(m.reaped)
	if id >= uint32(m.ring.Size) {
		return 0, 0, virtio.ErrUsedID
	}
	i = slices.IndexFunc(m.avail, func(c *lent) bool { return uint32(c.head) == id })
	if i >= 0 {
		return i, n, nil
	}
	for _, c := range slices.Concat(m.avail, m.added) {
		if slices.Contains(c.descs[1:], uint16(id)) {
			return 0, 0, virtio.ErrNotHead
		}
	}
	return 0, 0, virtio.ErrNotLent
}

// reclaim says what Reclaim gives.
func (m *ledger) reclaim() (back []memtable.Buf) {
	for _, c := range slices.Concat(m.avail, m.added) {
		c.back.Len = 0
		back = append(back, c.back)
	}
	return back
}

// inRing holds the chain that the ring has at available index i to c.
func (m *ledger) inRing(i uint16, c *lent) error {
	head := binary.LittleEndian.Uint16(m.ring.Avail[4+2*int(i&(m.ring.Size-1)):])
	if head != c.head {
		return fmt.Errorf("available index %d has head %d, want %d", i, head, c.head)
	}
	table, at := m.ring.Desc, int(head)
	bufs := slices.Concat(c.out, c.in)
	if len(c.descs) == 1 && len(bufs) > 1 {
		lo, hi := m.words(table, at)
		off := lo - uint64(m.tables.Addr)
		if hi != uint64(16*len(bufs))|virtiotest.Indirect<<32 || off > uint64(m.tables.Cap)-uint64(16*len(bufs)) {
			return fmt.Errorf("descriptor %d names no table of %d: %#x %#x", at, len(bufs), lo, hi)
		}
		table, at = m.tables.VA.Add(off).Bytes(uint64(16*len(bufs))), 0
	}
	for k, b := range bufs {
		lo, hi := m.words(table, at)
		n, flags, next := b.Len, uint64(0), uint64(0)
		if k >= len(c.out) {
			n, flags = b.Cap, virtiotest.Write
		}
		if k+1 < len(bufs) {
			flags, next = flags|virtiotest.Next, hi>>48
			if m.features.Has(virtio.FeatureInOrder) { // virtio 1.2, 2.7.5.2
				next = uint64(at+1) & uint64(m.ring.Size-1)
			}
		}
		if want := uint64(n) | flags<<32 | next<<48; lo != uint64(b.Addr) || hi != want {
			return fmt.Errorf("buffer %d of head %d: descriptor %d is %#x %#x, want %#x %#x", k, head, at, lo, hi, b.Addr, want)
		}
		at = int(next)
	}
	return nil
}

func (m *ledger) words(table []byte, i int) (lo, hi uint64) {
	return binary.LittleEndian.Uint64(table[16*i:]), binary.LittleEndian.Uint64(table[16*i+8:])
}

// errorOf is what Err must say.
func (m *ledger) errorOf(got error) error {
	if !errors.Is(got, m.broken) || (got == nil) != (m.broken == nil) {
		return fmt.Errorf("Err says %v, want %v", got, m.broken)
	}
	return nil
}
