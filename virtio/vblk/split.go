package vblk

import (
	"github.com/vhostd/vhostd/memtable"
)

// split cuts a long read or write into requests that the device takes: each ends
// at a block's boundary, and is as long as the limits let it.
type split struct {
	kind   Type
	sector uint64
	bufs   []memtable.Buf
	at     int    // the buffer that comes next
	off    uint32 // in it
	block  uint32
	limits Limits
	part   []memtable.Buf
	err    error // why it stopped early
}

// next gives the next request, whose Bufs are good until the one after it; false
// at the end.
func (s *split) next(r *Request) bool {
	s.part = s.part[:0]
	total := s.gather()
	over := total % s.block
	if total == over {
		if total > 0 {
			s.err = ErrLimit // pieces so small that no block fits into one request
		}
		return false
	}
	s.putBack(over)
	total -= over
	*r = Request{Type: s.kind, Sector: s.sector, Bufs: s.part}
	s.sector += uint64(total / SectorSize)
	return true
}

// gather takes pieces until a limit or the end.
func (s *split) gather() (total uint32) {
	for s.at < len(s.bufs) && len(s.part) < s.limits.Segments && total < s.limits.Bytes {
		b := s.bufs[s.at]
		n := min(b.Len-s.off, s.limits.Size, s.limits.Bytes-total)
		if n > 0 {
			s.part = append(s.part, memtable.Buf{VA: b.VA.Add(uint64(s.off)), Addr: b.Addr + memtable.IOVA(s.off), Len: n, Cap: n})
			total += n
		}
		if s.off += n; s.off == b.Len {
			s.at, s.off = s.at+1, 0
		}
	}
	return total
}

// putBack takes n bytes off the end of the part again: less than a block.
func (s *split) putBack(n uint32) {
	for n > 0 {
		last := &s.part[len(s.part)-1]
		k := min(n, last.Len)
		for left := k; left > 0; { // a piece lies in one buffer, but empty ones may follow
			if s.off == 0 {
				s.at--
				s.off = s.bufs[s.at].Len
			}
			m := min(left, s.off)
			s.off, left = s.off-m, left-m
		}
		if last.Len -= k; last.Len == 0 {
			s.part = s.part[:len(s.part)-1]
		}
		last.Cap = last.Len
		n -= k
	}
}

// size adds up the bytes of buffers.
func size(bufs []memtable.Buf) (n uint64) {
	for i := range bufs {
		n += uint64(bufs[i].Len)
	}
	return n
}
