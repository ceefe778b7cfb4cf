package virtio

import (
	"fmt"

	"github.com/vhostd/vhostd/memtable"
)

// cacheLine is what the parts of a ring are aligned to: each has one writer, and
// no line should have two.
const cacheLine = 64

// RingBytes is how much memory [PlaceRing] wants for a ring of n descriptors.
func RingBytes(n uint16) uint64 {
	_, _, used := SplitSizes(n)
	return ringOffset(n, true) + used
}

// ringOffset is where the available ring begins, or the used ring.
func ringOffset(n uint16, used bool) uint64 {
	desc, avail, _ := SplitSizes(n)
	at := upToLine(desc)
	if used {
		at = upToLine(at + avail)
	}
	return at
}

func upToLine(n uint64) uint64 { return (n + cacheLine - 1) &^ (cacheLine - 1) }

// PlaceRing lays a split ring of n descriptors into b, which has at least
// RingBytes(n) bytes and is aligned to 64, here and for the device. The error
// is an [ErrRing].
func PlaceRing(b memtable.Buf, n uint16) (Placement, error) {
	if need := RingBytes(n); uint64(b.Cap) < need {
		return Placement{}, fmt.Errorf("%w: %d bytes of memory for %d descriptors, which need %d", ErrRing, b.Cap, n, need)
	}
	if b.Addr%cacheLine != 0 {
		return Placement{}, fmt.Errorf("%w: memory at 0x%x is not aligned to %d bytes", ErrRing, b.Addr, cacheLine)
	}
	desc, avail, used := SplitSizes(n)
	part := func(off, size uint64) memtable.Buf {
		return memtable.Buf{VA: b.VA.Add(off), Addr: b.Addr + memtable.IOVA(off), Len: uint32(size), Cap: uint32(size)}
	}
	p := Placement{Size: n, Desc: part(0, desc), Avail: part(ringOffset(n, false), avail), Used: part(ringOffset(n, true), used)}
	_, err := p.ring()
	return p, err
}

// ring checks a placement and gives the ring as we use it.
func (p Placement) ring() (Ring, error) {
	slice := func(b memtable.Buf) []byte {
		if b.VA.IsNil() {
			return nil
		}
		return b.VA.Bytes(uint64(b.Cap))
	}
	r := Ring{Size: p.Size, Desc: slice(p.Desc), Avail: slice(p.Avail), Used: slice(p.Used)}
	if err := r.Check(); err != nil {
		return Ring{}, err
	}
	// A driver writes flags and idx as one word.
	if !aligned(r.Avail, 4) {
		return Ring{}, fmt.Errorf("%w: the available ring is not aligned to 4 bytes", ErrRing)
	}
	if p.Desc.Addr%16 != 0 || p.Avail.Addr%4 != 0 || p.Used.Addr%4 != 0 {
		return Ring{}, fmt.Errorf("%w: for the device its parts are at 0x%x, 0x%x and 0x%x, not aligned to 16, 4 and 4 bytes",
			ErrRing, p.Desc.Addr, p.Avail.Addr, p.Used.Addr)
	}
	return r, nil
}
