package vhosttest

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/virtio"
)

// The memory of a ring: its three parts, an indirect table of two descriptors
// per slot, and a buffer per slot.
const (
	tableLen = 32
	page     = 4096
	txBuffer = 65536 + 64
)

func pages(n int) int { return (n + page - 1) &^ (page - 1) }

// parts gives the length of the ring's three parts, each in pages of its own.
func (o Options) parts() (desc, avail, used int) {
	d, a, u := virtio.SplitSizes(o.Size)
	return pages(int(d)), pages(int(a)), pages(int(u))
}

// stride is the length of all of a ring's memory.
func (o Options) stride(buffer int) int {
	d, a, u := o.parts()
	return d + a + u + pages(int(o.Size)*tableLen) + pages(int(o.Size)*buffer)
}

// memory is the length of the guest's memory.
func (o Options) memory() int { return o.Pairs * (o.stride(o.Buffer) + o.stride(txBuffer)) }

// Ring is the driver's side of one queue. Slot i uses descriptors 2i and 2i+1
// of which the second is for frames in two pieces; so a ring holds Size/2
// frames.
type Ring struct {
	g     *Guest
	index int
	size  uint16

	desc, avail, used int // offsets into memory
	tables, buffers   int
	buffer            int // length of one

	kick, call int // eventfds
	next       uint16
	seen       uint16 // used index that was looked at
	free       []uint16
}

func (g *Guest) ring(index int) *Ring {
	g.tb.Helper()
	r := &Ring{g: g, index: index, size: g.o.Size, buffer: g.o.Buffer}
	at := index / 2 * (g.o.stride(g.o.Buffer) + g.o.stride(txBuffer))
	if index%2 == 1 {
		at += g.o.stride(g.o.Buffer)
		r.buffer = txBuffer
	}
	d, a, u := g.o.parts()
	r.desc, r.avail, r.used = at, at+d, at+d+a
	r.tables = at + d + a + u
	r.buffers = r.tables + pages(int(r.size)*tableLen)
	for _, fd := range []*int{&r.kick, &r.call} {
		n, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		g.must("eventfd", err)
		*fd = n
	}
	for slot := range r.size / 2 {
		r.free = append(r.free, slot)
	}
	return r
}

// address gives the guest physical address of an offset into memory.
func address(off int) uint64 { return guestBase + uint64(off) }

// put writes a descriptor at an offset.
func (g *Guest) put(off int, addr uint64, n uint32, flags, next uint16) {
	b := g.mem[off : off+16]
	binary.LittleEndian.PutUint64(b, addr)
	binary.LittleEndian.PutUint32(b[8:], n)
	binary.LittleEndian.PutUint16(b[12:], flags)
	binary.LittleEndian.PutUint16(b[14:], next)
}

const (
	flagNext     = 1
	flagWrite    = 2
	flagIndirect = 4
)

// buf is a slot's buffer.
func (r *Ring) buf(slot uint16) []byte {
	at := r.buffers + int(slot)*r.buffer
	return r.g.mem[at : at+r.buffer]
}
