package virtio

import (
	"math"

	"github.com/vhostd/vhostd/memtable"
)

// AddBurst lends buffers to the device, each a chain of its own, and says how
// many: as many as there is room for, from the first. Of a buffer for reading
// the device gets Len bytes, of one for writing Cap. [DriverQueue.Reap] gives
// them back. The device sees nothing of it before Publish.
//
// This is the road of a net device's rings. It does not allocate. d is Readable
// or Writable.
func (q *DriverQueue) AddBurst(bufs []memtable.Buf, d Dir) int {
	if q.broken.Load() != nil {
		return 0
	}
	bufs = bufs[:min(len(bufs), q.Room())]
	// Locals that nothing below changes, none empty: with that the compiler sees
	// that an index masked by the length is inside.
	ring, free, order, loans := q.ring, q.free, q.order, q.loans
	if len(free) == 0 || len(order) == 0 || len(loans) == 0 {
		return 0
	}
	pop, added := q.pop, q.added
	kind, flags := isSource, uint64(0)
	if d == Writable {
		kind, flags = isSink, flagWrite<<32
	}
	for i := range bufs {
		b := &bufs[i]
		head := free[int(pop+uint16(i))&(len(free)-1)]
		size := b.Len
		if kind == isSink {
			size = b.Cap
		}
		ring.putDescriptor(head, b.Addr, uint64(size)|flags)
		pos := added + uint64(i)
		// The device's cache need not fetch a line again that does not change.
		if at := int(uint16(pos)) & (len(order) - 1); order[at] != head {
			ring.putHead(uint16(pos), head)
			order[at] = head
		}
		l := &loans[int(head)&(len(loans)-1)]
		l.addr, l.token, l.pos, l.cap, l.kind = b.Addr, b.Token, pos, b.Cap, kind
	}
	q.pop, q.added = pop+uint16(len(bufs)), added+uint64(len(bufs))
	return len(bufs)
}

// Add lends a chain to the device: Len bytes of each of out to read, then Cap
// bytes of each of in to write. Reap gives back the token; the buffers are the
// caller's to remember until then. The device sees nothing before Publish.
//
// A chain of several buffers takes one descriptor of the ring if they fit an
// indirect table. The error is [ErrFull], [ErrChain], or what Err says.
func (q *DriverQueue) Add(out, in []memtable.Buf, token uint64) error {
	if err := q.Err(); err != nil {
		return err
	}
	n := len(out) + len(in)
	room, ok := measure(out, in)
	if !ok || n == 0 || n > len(q.loans) {
		return ErrChain
	}
	descs, write := n, q.describe
	if n > 1 && n <= q.tableMax {
		descs, write = 1, q.tabulate
	}
	if descs > q.Room() {
		return ErrFull
	}
	write(out, in)
	head := q.free[q.pop&q.mask]
	if at := q.added & uint64(q.mask); q.order[at] != head {
		q.ring.putHead(uint16(q.added), head)
		q.order[at] = head
	}
	// Memory of ours is written when nothing can fault any more.
	q.link(descs)
	l := &q.loans[head]
	l.kind, l.token, l.cap = isChain, token, room
	q.added++
	return nil
}

// measure gives how much the device can write; ok is false if the chain is
// longer than virtio allows (virtio 1.2, 2.7.5: 2^32 bytes in all).
func measure(out, in []memtable.Buf) (room uint32, ok bool) {
	var all, write uint64
	for i := range out {
		all += uint64(out[i].Len)
	}
	for i := range in {
		write += uint64(in[i].Cap)
	}
	return uint32(write), all+write <= math.MaxUint32
}

// part gives buffer i of a chain as a descriptor has it, without next.
func part(out, in []memtable.Buf, i int) (addr memtable.IOVA, n uint32, flags uint16) {
	if i < len(out) {
		addr, n = out[i].Addr, out[i].Len
	} else {
		b := &in[i-len(out)]
		addr, n, flags = b.Addr, b.Cap, flagWrite
	}
	if i+1 < len(out)+len(in) {
		flags |= flagNext
	}
	return addr, n, flags
}

// describe writes a chain into the descriptors that are free next.
func (q *DriverQueue) describe(out, in []memtable.Buf) {
	for i := range len(out) + len(in) {
		addr, n, flags := part(out, in, i)
		next := uint16(0)
		if flags&flagNext != 0 {
			next = q.free[(q.pop+uint16(i)+1)&q.mask]
		}
		q.ring.putDescriptor(q.free[(q.pop+uint16(i))&q.mask], addr, encode(n, flags, next))
	}
}

// tabulate writes a chain into the indirect table of the descriptor that is
// free next, and that descriptor (virtio 1.2, 2.7.5.3).
func (q *DriverQueue) tabulate(out, in []memtable.Buf) {
	head := q.free[q.pop&q.mask]
	off := uint64(head) * uint64(q.tableMax) * 16
	for i := range len(out) + len(in) {
		addr, n, flags := part(out, in, i)
		next := uint16(0)
		if flags&flagNext != 0 {
			next = uint16(i) + 1
		}
		store(q.Indirect.VA.Add(off+16*uint64(i)), addr, encode(n, flags, next))
	}
	size := 16 * uint32(len(out)+len(in))
	q.ring.putDescriptor(head, q.Indirect.Addr+memtable.IOVA(off), encode(size, flagIndirect, 0))
}

// link takes descriptors off the free ones and links them as a chain.
func (q *DriverQueue) link(n int) {
	for i := range uint16(n) {
		l := &q.loans[q.free[(q.pop+i)&q.mask]]
		l.kind, l.pos, l.next = isInner, q.added, none
		if int(i)+1 < n {
			l.next = q.free[(q.pop+i+1)&q.mask]
		}
	}
	q.pop += uint16(n)
}
