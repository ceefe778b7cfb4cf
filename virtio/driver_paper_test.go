package virtio_test

import "encoding/binary"

// The device of a driver's duel: it writes the used ring as bytes, in any order,
// and when it is hostile anything anywhere.

// device takes one of its steps.
func (d *driverDuel) device(step byte) {
	size := int(d.m.ring.Size)
	switch used := d.m.ring.Used; step {
	case deviceUse:
		d.use(int(d.in.byte()), 1)
	case deviceBatch:
		d.use(0, 1+int(d.in.byte())%9)
	case deviceShow:
		binary.LittleEndian.PutUint16(used[2:], d.used)
	case deviceEvent:
		if b := d.in.byte(); d.m.features&eventIdx != 0 {
			binary.LittleEndian.PutUint16(used[4+8*size:], d.m.availIdx+uint16(b)-128)
		} else {
			binary.LittleEndian.PutUint16(used, uint16(b&1))
		}
	case deviceElement: // at one of the next to be reaped, or behind
		id, n := uint32(d.in.byte()), d.in.length()
		if id >= 0xf0 {
			id <<= 12
		}
		d.element(d.m.reaped+uint16(d.in.byte()%8), id, n)
	case deviceIndex:
		d.used = d.m.reaped + uint16(d.in.byte())*uint16(d.in.byte())
	case devicePoke: // what only the driver may write
		d.liar = true
		for _, part := range [][]byte{d.m.ring.Desc, d.m.ring.Avail, d.tables()} {
			if len(part) > 0 {
				at := int(binary.LittleEndian.Uint16([]byte{d.in.byte(), d.in.byte()}))
				part[at%len(part)] = d.in.byte()
			}
		}
	}
}

func (d *driverDuel) tables() []byte {
	if d.m.tables.VA.IsNil() {
		return nil
	}
	return d.m.tables.VA.Bytes(uint64(d.m.tables.Cap))
}

// element writes the used element at free-running index i.
func (d *driverDuel) element(i uint16, id, n uint32) {
	e := d.m.ring.Used[4+8*int(i&(d.m.ring.Size-1)):]
	binary.LittleEndian.PutUint32(e, id)
	binary.LittleEndian.PutUint32(e[4:], n)
}

// use finishes one of the chains that the device has, or with IN_ORDER the next
// n, by one element and nonsense where the others would be.
func (d *driverDuel) use(which, n int) {
	held := d.held()
	if len(held) == 0 {
		return
	}
	last := held[which%len(held)]
	if d.m.features&inOrder != 0 {
		n = min(n, len(held))
		for i := range n {
			d.element(d.used+uint16(i), 0xdeadbeef, 0xffffffff)
		}
		last = held[n-1]
	} else {
		n = 1
	}
	wrote := 0
	if last.room > 0 {
		wrote = int(d.in.byte()) % (last.room + 1)
	}
	d.element(d.used, uint32(last.head), uint32(wrote))
	d.used += uint16(n)
}

// held gives the chains that the device has: published, and not named by an
// element that was not reaped.
func (d *driverDuel) held() (held []*lent) {
	done := make(map[uint32]bool)
	ahead := int(d.used - d.m.reaped)
	if ahead > len(d.m.avail) {
		return nil // it lied about its index
	}
	if d.m.features&inOrder != 0 {
		return d.m.avail[ahead:]
	}
	for i := range ahead {
		id, _ := d.m.element(d.m.reaped + uint16(i))
		done[id] = true
	}
	for _, c := range d.m.avail {
		if !done[uint32(c.head)] {
			held = append(held, c)
		}
	}
	return held
}
