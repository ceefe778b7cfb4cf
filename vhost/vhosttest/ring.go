package vhosttest

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// expose puts a slot's head into the available ring.
func (r *Ring) expose(slot uint16) {
	at := r.avail + 4 + 2*int(r.next%r.size)
	binary.LittleEndian.PutUint16(r.g.mem[at:], 2*slot)
	r.next++
}

// Publish makes what was added available, and kicks where the device asks for
// it.
func (r *Ring) Publish() {
	flags := uint16(0)
	if r.g.o.Poll {
		flags = 1 // no interrupts (virtio 1.2, 2.7.6)
	}
	old := r.g.store(r.avail, flags, r.next)
	if old == r.next {
		return
	}
	if r.g.Features.Has(virtio.FeatureEventIdx) {
		event := binary.LittleEndian.Uint16(r.g.mem[r.used+4+8*int(r.size):])
		if r.next-event-1 >= r.next-old {
			return
		}
	} else if flags, _ := r.g.load(r.used); flags&1 != 0 {
		return
	}
	r.Kick()
}

// Kick kicks, asked for or not.
func (r *Ring) Kick() {
	one := [8]byte{1}
	_, _ = unix.Write(r.kick, one[:])
}

// fill posts all receive buffers.
func (r *Ring) fill() {
	if r.g.o.Hole {
		return
	}
	for len(r.free) > 0 {
		r.post()
	}
	r.Publish()
}

// post posts one receive buffer.
func (r *Ring) post() {
	slot := r.free[len(r.free)-1]
	r.free = r.free[:len(r.free)-1]
	at := r.buffers + int(slot)*r.buffer
	r.g.put(r.desc+32*int(slot), address(at), uint32(r.buffer), flagWrite, 0)
	r.expose(slot)
}

// Add adds a frame without publishing it; false: the ring is full. The header
// is all zero but what hdr says.
func (r *Ring) Add(hdr vnet.Header, frame []byte) bool {
	if len(r.free) == 0 && r.Reap() == 0 {
		return false
	}
	slot := r.free[len(r.free)-1]
	r.free = r.free[:len(r.free)-1]
	n := vnet.HeaderLen(r.g.Features)
	b := r.buf(slot)
	var raw [vnet.MaxHeader]byte
	hdr.Encode(&raw)
	copy(b, raw[:n])
	r.describe(slot, n, copy(b[n:], frame))
	r.expose(slot)
	return true
}

// describe writes the descriptors of a frame of size bytes behind a header of n.
func (r *Ring) describe(slot uint16, n, size int) {
	at, head := address(r.buffers+int(slot)*r.buffer), r.desc+32*int(slot)
	switch {
	case r.g.o.Indirect:
		table := r.tables + tableLen*int(slot)
		r.g.put(table, at, uint32(n), flagNext, 1)
		r.g.put(table+16, at+uint64(n), uint32(size), 0, 0)
		r.g.put(head, address(table), tableLen, flagIndirect, 0)
	case r.g.o.Split:
		r.g.put(head, at, uint32(n), flagNext, 2*slot+1)
		r.g.put(head+16, at+uint64(n), uint32(size), 0, 0)
	default:
		r.g.put(head, at, uint32(n+size), 0, 0)
	}
}

// Reap takes transmitted frames back, and says how many.
func (r *Ring) Reap() (n int) {
	for ; r.Used() > 0; n++ {
		r.free = append(r.free, uint16(r.elem()/2))
	}
	return n
}

// Used is how many used elements were not looked at.
func (r *Ring) Used() int {
	_, idx := r.g.load(r.used)
	return int(idx - r.seen)
}

// elem takes the next used element and gives its id.
func (r *Ring) elem() (id uint32) {
	at := r.used + 4 + 8*int(r.seen%r.size)
	r.seen++
	return binary.LittleEndian.Uint32(r.g.mem[at:])
}

// Next copies the next frame received into p, posts its buffers again, and
// gives its length; 0: there is none.
func (r *Ring) Next(p []byte) (hdr vnet.Header, n int) {
	if r.Used() == 0 {
		return hdr, 0
	}
	skip := vnet.HeaderLen(r.g.Features)
	buffers := uint16(1)
	for i := uint16(0); i < buffers; i++ {
		at := r.used + 4 + 8*int(r.seen%r.size)
		size := int(binary.LittleEndian.Uint32(r.g.mem[at+4:]))
		slot := uint16(r.elem() / 2)
		b := r.buf(slot)[:size]
		if i == 0 {
			hdr = vnet.Decode((*[10]byte)(b))
			if skip == vnet.MaxHeader {
				hdr.NumBuffers = binary.LittleEndian.Uint16(b[10:])
				buffers = hdr.NumBuffers
			}
			b = b[skip:]
		}
		n += copy(p[n:], b)
		r.free = append(r.free, slot)
		r.post()
	}
	r.Publish()
	return hdr, n
}

// Wait waits for used elements until the deadline; false: there are none.
func (r *Ring) Wait(until time.Time) bool {
	for r.Used() == 0 {
		left := time.Until(until)
		if left <= 0 {
			return false
		}
		// Ask for a call with the next element. There is no fence behind it, so
		// look again soon.
		binary.LittleEndian.PutUint16(r.g.mem[r.avail+4+2*int(r.size):], r.seen)
		poll := []unix.PollFd{{Fd: int32(r.call), Events: unix.POLLIN}}
		_, _ = unix.Poll(poll, int(min(left, 5*time.Millisecond)/time.Millisecond)+1)
		var count [8]byte
		_, _ = unix.Read(r.call, count[:])
	}
	return true
}

// Corrupt makes the available ring name a head that does not exist, and kicks.
func (r *Ring) Corrupt(head uint16) {
	at := r.avail + 4 + 2*int(r.next%r.size)
	binary.LittleEndian.PutUint16(r.g.mem[at:], head)
	r.next++
	r.g.store(r.avail, 0, r.next)
	r.Kick()
}
