package vnet

import "github.com/vhostd/vhostd/memtable"

// Headroom is how many bytes at the start of a frame's first buffer are its
// header's (virtio 1.2, 5.1.6: with VERSION_1, and no HASH_REPORT). Len of the
// buffer counts them.
const Headroom = 12

// minFrame is the shortest frame: the Ethernet header.
const minFrame = 14

// Frame is a frame, or a piece of one that takes several buffers.
type Frame struct {
	memtable.Buf
	// Header is what the frame needs or has: checksum, segmentation. That of
	// the first piece counts.
	Header Header
	// More says that the frame goes on in the next Frame of the burst.
	More bool
	// Bare says that the buffer has no room for a header, and begins with data:
	// what comes after the first piece, and what was not made to be sent.
	Bare bool
}

// Data gives the frame's bytes in this buffer.
func (f *Frame) Data() []byte {
	b := f.VA.Bytes(uint64(f.Len))
	if f.Bare {
		return b
	}
	return b[Headroom:]
}

// Data gives the frame in b, behind its header.
func Data(b memtable.Buf) []byte { return b.VA.Bytes(uint64(b.Len))[Headroom:] }

// Space gives the room for a frame in b.
func Space(b memtable.Buf) []byte { return b.VA.Bytes(uint64(b.Cap))[Headroom:] }

// Load copies a frame into b behind the headroom, and says whether it fits.
func Load(b *memtable.Buf, frame []byte) bool {
	if uint64(len(frame))+Headroom > uint64(b.Cap) {
		return false
	}
	b.Len = Headroom + uint32(copy(Space(*b), frame))
	return true
}
