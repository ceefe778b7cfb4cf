package pktgen

import (
	"bytes"
	"encoding/binary"
)

// Where things lie in a frame: Ethernet, IPv4 and UDP, and then our own.
const (
	etherHeader = 14
	ipHeader    = 20
	headers     = etherHeader + ipHeader + 8

	atRun   = etherHeader + 4 // the IPv4 identification
	atSrc   = headers - 8     // UDP ports
	atDst   = headers - 6
	atFlow  = headers
	atSeq   = headers + 2
	atStamp = headers + 10

	stampLen = 18 // flow, place in the flow, time

	// ourPort is where our frames go. It stands for "this is one of ours".
	ourPort = 0x7668
)

// anywhere is an address that nobody has, for frames that are for whoever
// receives them: a switch floods it.
var anywhere = MAC{0x02, 0x76, 0x68, 0, 0, 0x01}

// template makes a frame of size bytes of this run, but for what differs from
// frame to frame. Addresses are those for benchmarks (RFC 2544, C.2.2).
func template(size int, dst, src MAC, run uint16) []byte {
	f := make([]byte, size)
	copy(f, dst[:])
	copy(f[6:], src[:])
	copy(f[12:], []byte{0x08, 0x00, 0x45, 0})
	binary.BigEndian.PutUint16(f[16:], uint16(size-etherHeader))
	binary.BigEndian.PutUint16(f[atRun:], run)
	copy(f[20:], []byte{0x40, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 19, 0, 1})
	binary.BigEndian.PutUint16(f[24:], checksum(f[etherHeader:][:ipHeader]))
	binary.BigEndian.PutUint16(f[atDst:], ourPort)
	binary.BigEndian.PutUint16(f[atDst+2:], uint16(size-etherHeader-ipHeader)) // and no checksum, which is 0
	copy(f[minFrame:], filler[:])
	return f
}

// checksum is that of IPv4 (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// filler is what long frames are full of: no period that fits a page or a line.
var filler = func() (b [maxFrame]byte) {
	for i := range b {
		b[i] = byte(i%251) ^ byte(i/251)
	}
	return b
}()

// stamp writes into a frame what differs from frame to frame.
func stamp(f []byte, flow uint16, seq uint64, now int64) {
	binary.BigEndian.PutUint16(f[atSrc:], 0xc000|flow&0x3fff)
	binary.BigEndian.PutUint16(f[atFlow:], flow)
	binary.BigEndian.PutUint64(f[atSeq:], seq)
	binary.BigEndian.PutUint64(f[atStamp:], uint64(now))
}

// mark is what a frame says of itself.
type mark struct {
	run, flow uint16
	seq       uint64
	at        int64
	size      int // bytes that the frame should have
}

// read reads the mark of a frame of ours.
func read(f []byte) (m mark, ours bool) {
	if len(f) < minFrame || binary.BigEndian.Uint16(f[12:]) != 0x0800 || f[14] != 0x45 || f[23] != 17 || binary.BigEndian.Uint16(f[atDst:]) != ourPort {
		return m, false
	}
	return mark{
		run:  binary.BigEndian.Uint16(f[atRun:]),
		flow: binary.BigEndian.Uint16(f[atFlow:]),
		seq:  binary.BigEndian.Uint64(f[atSeq:]),
		at:   int64(binary.BigEndian.Uint64(f[atStamp:])),
		size: int(binary.BigEndian.Uint16(f[16:])) + etherHeader,
	}, true
}

// filled says whether a piece of a frame that begins at byte off of it is full of
// what it should be.
func filled(piece []byte, off int) bool {
	if skip := minFrame - off; skip > 0 {
		piece, off = piece[min(skip, len(piece)):], minFrame
	}
	at := off - minFrame
	return at <= len(filler)-len(piece) && bytes.Equal(piece, filler[at:at+len(piece)])
}

// swap makes a frame one that goes back to where it came from.
func swap(f []byte) {
	var dst [6]byte
	copy(dst[:], f)
	copy(f, f[6:12])
	copy(f[6:], dst[:])
}
