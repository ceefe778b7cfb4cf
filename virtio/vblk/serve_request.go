package vblk

import "github.com/vhostd/vhostd/virtio"

// request is a chain that was read: what is asked for, copied once, and where
// its data is. Only its owner, the worker of the ring, makes and ends one; what
// runs it elsewhere touches guest memory through the kernel alone.
type request struct {
	header Header
	known  bool     // the header was whole
	data   [][]byte // what the storage reads or fills
	bytes  uint64   // in data
	ranges []byte   // a copy of what TypeDiscard and TypeWriteZeroes say
	room   uint64   // writable bytes, the status among them
	filled bool     // all of room but the status was written
	err    error
}

// dataKeep is how many pieces a request's scratch keeps for the next one.
const dataKeep = 512

// parse reads element i of b. Header, data and status may be cut into descriptors in
// any way (virtio 1.2, 2.7.4.2).
func (r *request) parse(b *virtio.Burst, i int) {
	data := r.data[:0]
	if cap(data) > dataKeep {
		data = nil
	}
	*r = request{data: data, ranges: r.ranges[:0]}
	segs, readable := int(b.Elem[i].Segs), b.Readable(i)
	var header [HeaderLen]byte
	got := 0
	for k := range readable {
		s := b.Seg(i, k)
		p := s.VA.Bytes(uint64(s.Len))
		if got < HeaderLen {
			n := copy(header[got:], p)
			got += n
			if p = p[n:]; got == HeaderLen {
				r.header, r.known = DecodeHeader(&header), true
			}
		}
		if r.known && r.header.Type.writes() {
			r.add(p)
		}
	}
	for k := readable; k < segs; k++ {
		r.room += uint64(b.Seg(i, k).Len)
	}
	if r.known && r.header.Type == TypeIn && r.room > 0 {
		r.into(b, i)
	}
	if r.header.Type == TypeDiscard || r.header.Type == TypeWriteZeroes {
		r.copyRanges()
	}
}

// add makes p a piece of the data.
func (r *request) add(p []byte) {
	if len(p) > 0 {
		r.data, r.bytes = append(r.data, p), r.bytes+uint64(len(p))
	}
}

// into makes all that is writable but its last byte the data.
func (r *request) into(b *virtio.Burst, i int) {
	left := r.room - 1
	for k := b.Readable(i); left > 0; k++ {
		s := b.Seg(i, k)
		n := min(uint64(s.Len), left)
		r.add(s.VA.Bytes(n))
		left -= n
	}
}

// rangesMax bounds what is copied of a list of ranges; a longer one is refused,
// so one byte more tells it.
const rangesMax = max(discardSegs, zeroesSegs)*SegmentLen + 1

// copyRanges copies the ranges: what was checked must be what is done.
func (r *request) copyRanges() {
	for _, p := range r.data {
		r.ranges = append(r.ranges, p[:min(len(p), rangesMax-len(r.ranges))]...)
	}
}

// answer writes what the device has to say into element i: the data that run
// left to it, zeroes where there is none, and the status in the last byte. So
// the used length is all the room there was, and true (virtio 1.2, 2.7.8.2).
func (r *request) answer(b *virtio.Burst, i int, id *[IDLen]byte) {
	var text []byte
	if r.err == nil && r.header.Type == TypeGetID {
		text = id[:]
	}
	left := r.room
	for k := b.Readable(i); k < int(b.Elem[i].Segs); k++ {
		s := b.Seg(i, k)
		p := s.VA.Bytes(uint64(s.Len))
		if left -= uint64(s.Len); left == 0 && len(p) > 0 {
			p[len(p)-1] = byte(statusOf(r.err))
			p = p[:len(p)-1]
		}
		if !r.filled {
			n := copy(p, text)
			text = text[n:]
			clear(p[n:])
		}
	}
	b.Elem[i].Wrote = uint32(r.room)
}
