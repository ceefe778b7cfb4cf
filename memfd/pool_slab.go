package memfd

import (
	"sync/atomic"

	"github.com/vhostd/vhostd/memtable"
)

// place is where a buffer of a slab is. It has no pointers: the garbage
// collector does not look at it.
type place struct {
	addr memtable.IOVA
	at   uint32 // from the beginning of the slab, in quanta
	gen  uint32 // odd while it is lent; belongs to who holds the buffer
}

// slab is memory of a pool that comes and goes as a whole: some extents that
// follow one another, and the buffers in them. What is known of buffers is here
// and not in them.
type slab struct {
	va       memtable.VA
	size     uint64 // bytes
	resident bool
	retiring atomic.Bool // its buffers are not lent any more; set under Pool.mu
	slot     uint64      // its number in the pool
	rank     int         // in Pool.order
	places   []place
	stack    []uint32 // of the buffers that are free and in no cache; under Pool.mu
}

// The token of a buffer: which slab, which place, and how often it was lent.
const (
	placeBits = 24
	slotBits  = 16
	genBits   = 24
	maxSlots  = 1 << slotBits
	maxPlaces = 1 << placeBits
)

// id is the part of a token that does not change.
func id(slot uint64, i uint32) uint64 { return slot<<placeBits | uint64(i) }

func slotOf(id uint64) uint64  { return id >> placeBits & (maxSlots - 1) }
func placeOf(id uint64) uint64 { return id & (maxPlaces - 1) }

// genOf is what of a gen goes into a token.
func genOf(gen uint32) uint64 { return uint64(gen) & (1<<genBits - 1) }

// lend gives the buffer of an id. It belongs to the caller, who had it in a
// cache.
func (s *slab) lend(id uint64, size uint32) memtable.Buf {
	p := &s.places[placeOf(id)]
	p.gen++
	return memtable.Buf{VA: s.va.Add(uint64(p.at) * quantum), Addr: p.addr, Cap: size,
		Token: genOf(p.gen)<<(placeBits+slotBits) | id}
}

// slabSize is the least size of slabs, where extents are smaller: one is not
// kept for every few buffers.
const slabSize = 2 << 20

// cut makes slabs of a block.
func (p *Pool) cut(b *block) (all []*slab) {
	size := up(max(slabSize, b.Extent), b.Extent)
	if p.o.Straddle {
		size = max(size, up(p.stride, b.Extent))
	}
	for off := uint64(0); off < b.Size; {
		n := size
		if b.Size-off < 2*size { // what is left would be less than a slab
			n = b.Size - off
		}
		s := &slab{va: b.VA.Add(off), size: n}
		off += n
		p.lay(s, b.Page)
		s.stack = make([]uint32, len(s.places))
		for i := range s.stack {
			// The lowest buffer is lent first.
			s.stack[i] = uint32(len(s.stack) - 1 - i)
		}
		all = append(all, s)
	}
	return all
}

// lay finds the places of buffers in s. A buffer is contiguous for devices, and
// lies in one page unless it may straddle.
func (p *Pool) lay(s *slab, page uint64) {
	for off := uint64(0); off < s.size; {
		addr, n, ok := p.from.iova(s.va.Add(off))
		if !ok {
			return // cannot be: it is mapped
		}
		n = min(n, s.size-off)
		if !p.o.Straddle {
			n = min(n, page)
		}
		start := numberOf(s.va) + off
		at := up(start, p.align) - start
		for at <= n && p.stride <= n-at && len(s.places) < maxPlaces {
			s.places = append(s.places, place{addr: addr + memtable.IOVA(at), at: uint32((off + at) / quantum)})
			at += p.stride
		}
		off += n
	}
}
