package virtiotest

import (
	"encoding/binary"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// The layout of a split virtqueue, written down a second time from virtio 1.2,
// 2.7: the tests are worth nothing if both sides take it from the same place.

// Descriptor flags (virtio 1.2, 2.7.5).
const (
	Next     = 1
	Write    = 2
	Indirect = 4
)

const (
	noInterrupt = 1 // avail.flags (virtio 1.2, 2.7.6)
	noNotify    = 1 // used.flags (virtio 1.2, 2.7.8)
	indexes     = 1 << 16
)

// Desc is a descriptor as the driver writes it.
type Desc struct {
	Addr  memtable.GPA
	Len   uint32
	Flags uint16
	Next  uint16
}

// encode is the descriptor's 16 bytes.
func (d Desc) encode() []byte {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[0:], uint64(d.Addr))
	binary.LittleEndian.PutUint32(b[8:], d.Len)
	binary.LittleEndian.PutUint16(b[12:], d.Flags)
	binary.LittleEndian.PutUint16(b[14:], d.Next)
	return b[:]
}

// rings is where the three parts of a virtqueue are.
type rings struct {
	m                 *Memory
	size              uint16
	desc, avail, used Area
}

// place allocates the parts. With odd the available ring begins at 2 modulo 4,
// which the specification allows: then no 32-bit word holds its flags and idx.
func place(m *Memory, size uint16, odd bool) (r rings, err error) {
	n := uint64(size)
	r = rings{m: m, size: size}
	if r.desc, err = m.Alloc(16*n, 16); err != nil {
		return r, err
	}
	if r.avail, err = m.Alloc(6+2*n+2, 4); err != nil {
		return r, err
	}
	if r.avail.Size -= 2; odd {
		r.avail.Addr += 2
	}
	r.used, err = m.Alloc(6+8*n, 4)
	return r, err
}

// odd says whether flags and idx of the available ring share no aligned word.
func (r *rings) odd() bool { return r.avail.Addr%4 != 0 }

// split is the ring as the device finds it, in its own mapping.
func (r *rings) split() virtio.Ring {
	part := func(a Area) []byte {
		va, n, err := r.m.table.Span(a.Addr, a.Size)
		if err != nil || n != a.Size {
			panic("virtiotest: a part of the ring is not contiguous")
		}
		return va.Bytes(n)
	}
	return virtio.Ring{Size: r.size, Desc: part(r.desc), Avail: part(r.avail), Used: part(r.used)}
}

// setDesc writes descriptor i of the table.
func (r *rings) setDesc(i uint16, d Desc) {
	r.m.Write(r.desc.Addr+16*memtable.GPA(i), d.encode())
}

// setHead writes the available ring's entry for free-running index i.
func (r *rings) setHead(i, head uint16) {
	slot := memtable.GPA(i & (r.size - 1))
	r.m.Write(r.avail.Addr+4+2*slot, binary.LittleEndian.AppendUint16(nil, head))
}

// known is the driver's own copy of a field it shares with the device.
func (r *rings) known(a memtable.GPA, n uint64) []byte {
	reg := r.m.find(a)
	return reg.known[a-reg.Addr:][:n]
}

// setAvail publishes flags and idx of the available ring.
func (r *rings) setAvail(flags, idx uint16) {
	binary.LittleEndian.PutUint16(r.known(r.avail.Addr, 2), flags)
	binary.LittleEndian.PutUint16(r.known(r.avail.Addr+2, 2), idx)
	if r.odd() {
		store16(r.m.bytes(r.avail.Addr, 2), flags)
		store16(r.m.bytes(r.avail.Addr+2, 2), idx)
		return
	}
	store32(r.m.bytes(r.avail.Addr, 4), uint32(flags)|uint32(idx)<<16)
}

// SetUsedEvent writes used_event, behind the available ring (virtio 1.2, 2.7.7).
func (r *rings) SetUsedEvent(v uint16) {
	at := r.avail.Addr + 4 + 2*memtable.GPA(r.size)
	binary.LittleEndian.PutUint16(r.known(at, 2), v)
	store16(r.m.bytes(at, 2), v)
}

// usedWord reads flags and idx of the used ring.
func (r *rings) usedWord() (flags, idx uint16) {
	v := load32(r.m.bytes(r.used.Addr, 4))
	return uint16(v), uint16(v >> 16)
}

// availEvent reads avail_event, behind the used ring (virtio 1.2, 2.7.10).
func (r *rings) availEvent() uint16 {
	return load16(r.m.bytes(r.used.Addr+4+8*memtable.GPA(r.size), 2))
}

// usedElem reads the used element at free-running index i.
func (r *rings) usedElem(i uint16) (id, n uint32) {
	e := r.m.bytes(r.used.Addr+4+8*memtable.GPA(i&(r.size-1)), 8)
	return binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:])
}

// setUsed is what a driver does once, before the device runs.
func (r *rings) setUsed(idx uint16) { store32(r.m.bytes(r.used.Addr, 4), uint32(idx)<<16) }
