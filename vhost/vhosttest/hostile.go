package vhosttest

import (
	"encoding/binary"

	"github.com/vhostd/vhostd/vhost"
)

// Desc is a descriptor as a driver that nobody should trust writes it (virtio
// 1.2, 2.7.5).
type Desc struct {
	Addr        uint64
	Len         uint32
	Flags, Next uint16
}

// Flags of a descriptor.
const (
	DescNext     = flagNext
	DescWrite    = flagWrite
	DescIndirect = flagIndirect
)

// Spare is the index of the i-th descriptor that a ring without Options.Split
// never uses itself.
func Spare(i int) uint16 { return uint16(2*i + 1) }

// Describe writes descriptor i, whatever it says.
func (r *Ring) Describe(i uint16, d Desc) {
	r.g.put(r.desc+16*int(i), d.Addr, d.Len, d.Flags, d.Next)
}

// Table writes an indirect table and gives its address. A ring without
// Options.Indirect has room for one, of 2*Size descriptors.
func (r *Ring) Table(list ...Desc) (addr uint64) {
	for i, d := range list {
		r.g.put(r.tables+16*i, d.Addr, d.Len, d.Flags, d.Next)
	}
	return address(r.tables)
}

// Buffer is the address of the buffer of slot i.
func (r *Ring) Buffer(i int) uint64 { return address(r.buffers + i*r.buffer) }

// Expose makes a head available, good or bad, without publishing it.
func (r *Ring) Expose(head uint16) {
	at := r.avail + 4 + 2*int(r.next%r.size)
	binary.LittleEndian.PutUint16(r.g.mem[at:], head)
	r.next++
}

// Jump moves the available index by n, with nothing behind it, and kicks.
func (r *Ring) Jump(n uint16) {
	r.next += n
	r.g.store(r.avail, 0, r.next)
	r.Kick()
}

// Back takes the next used element; ok: there is one.
func (r *Ring) Back() (head, n uint32, ok bool) {
	if r.Used() == 0 {
		return 0, 0, false
	}
	at := r.used + 4 + 8*int(r.seen%r.size)
	n = binary.LittleEndian.Uint32(r.g.mem[at+4:])
	return r.elem(), n, true
}

// Fill posts a receive buffer in every slot that has none, also in a guest with
// Options.Hole.
func (r *Ring) Fill() {
	for len(r.free) > 0 {
		r.post()
	}
	r.Publish()
}

// Restart sets all rings up anew, as a driver does after it reset the device.
// Receive rings are filled.
func (g *Guest) Restart() {
	g.tb.Helper()
	for _, p := range g.Pairs {
		for _, r := range []*Ring{p.RX, p.TX} {
			clear(g.mem[r.desc:r.tables])
			r.next, r.seen, r.free = 0, 0, r.free[:0]
			for slot := range r.size / 2 {
				r.free = append(r.free, slot)
			}
		}
		p.RX.Fill()
		g.start(p.RX)
		g.start(p.TX)
	}
}

// Logged is the ring's address, with the wish that writes to its used ring are
// marked in the dirty log.
func (r *Ring) Logged() vhost.VringAddr {
	a := r.addr()
	a.Flags, a.Log = vhost.VringLog, address(r.used)
	return a
}
