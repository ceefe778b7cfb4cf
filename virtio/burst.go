package virtio

import "github.com/vhostd/vhostd/memtable"

// BurstMax is the most chains one burst holds.
const BurstMax = 64

// Seg is one contiguous piece of a chain.
type Seg struct {
	VA  memtable.VA
	Len uint32
}

// Elem is one chain of a burst. Its first segment is inline, the others are
// [Burst.Seg]'s. Segs is 0 for a bad chain: it goes back with
// length 0, and the queue counts it then.
type Elem struct {
	Seg
	Total uint32 // bytes in all segments
	Wrote uint32 // used length: bytes written from the first writable one on; the device sets it
	Head  uint16
	Segs  uint16
	read  uint16 // how many segments, from the first, are readable
	bad   uint8  // 1 + the reason in chainErrors; 0: it is good
	rest  uint32 // where the segments from the second on begin in Burst.over
}

// Burst holds what one Take gave. It is a worker's scratch: made once, used for
// every burst.
type Burst struct {
	N    int
	Elem [BurstMax]Elem
	over []Seg
}

// maxPieces bounds the segments of one chain. A chain has at most 32768
// descriptors; the surplus is for those that cross regions.
const maxPieces = 65535

// keepPieces is how many segments a burst's scratch keeps for the next one.
const keepPieces = 16384

// Seg gives segment k of element i; k < Elem[i].Segs.
func (b *Burst) Seg(i, k int) Seg {
	e := &b.Elem[i]
	if k == 0 {
		return e.Seg
	}
	return b.over[int(e.rest)+k-1]
}

// Readable gives how many segments of element i, from the first, the device
// reads; it writes the others.
func (b *Burst) Readable(i int) int { return int(b.Elem[i].read) }

// reset empties the burst and gives scratch of unusual size back.
func (b *Burst) reset() {
	b.N = 0
	if cap(b.over) > keepPieces {
		b.over = nil
	}
	b.over = b.over[:0]
}

// drop forgets the elements from i on.
func (b *Burst) drop(i int) {
	if i < b.N {
		b.N = i
	}
}
