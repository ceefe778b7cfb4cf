package vnet

import "github.com/vhostd/vhostd/memtable"

// longest is the most descriptors of a frame that is sent: 64 KiB in pages of
// 4 KiB, one that they begin in the middle of, and the header.
const longest = 18

// headerStride is from one header of the table to the next.
const headerStride = 16

// chains remembers the buffers of frames that are lent as chains, which a queue
// gives back as a token only. It has a place for each descriptor of the ring,
// and each place has room for a header in shared memory, for frames that have
// none of their own.
type chains struct {
	headers memtable.Buf
	place   []place
	free    uint16 // the first free place; noPlace: none
	left    int    // free places
	lent    int    // chains that the device has
	out     [longest]memtable.Buf
}

// place is a buffer of a chain.
type place struct {
	buf  memtable.Buf
	next uint16 // of the chain, or of the free ones
}

const noPlace = 0xffff

func newChains(n uint16, headers memtable.Buf) chains {
	c := chains{headers: headers, place: make([]place, n), left: int(n)}
	for i := range c.place {
		c.place[i].next = uint16(i) + 1
	}
	c.place[n-1].next = noPlace
	return c
}

// longest is the most descriptors a chain may have.
func (c *chains) longest() int { return min(longest, len(c.place)) }

// room says whether a frame of n buffers can be remembered.
func (c *chains) room(n int) bool { return n <= c.left }

// keep remembers the buffers of frames, for which there is room, and gives the
// token of their chain.
func (c *chains) keep(frames []Frame) (token uint64) {
	first := c.free
	for i := range frames {
		p := &c.place[c.free]
		p.buf = frames[i].Buf
		c.free = p.next
		if i == len(frames)-1 {
			p.next = noPlace
		}
	}
	c.left -= len(frames)
	return uint64(first)
}

// pieces gives the chain that was kept as token, with its header in place. It is
// good until the next call.
func (c *chains) pieces(frames []Frame, h Header, token uint64) []memtable.Buf {
	out := c.out[:0]
	at := frames[0].VA
	if frames[0].Bare {
		off := headerStride * token
		at = c.headers.VA.Add(off)
		out = append(out, memtable.Buf{VA: at, Addr: c.headers.Addr + memtable.IOVA(off), Len: Headroom, Cap: Headroom})
	}
	h.forDevice(at)
	for i := range frames {
		out = append(out, frames[i].Buf)
	}
	return out
}

// forget frees the places of a chain.
func (c *chains) forget(token uint64) {
	last := uint16(token)
	c.left++
	for c.place[last].next != noPlace {
		last = c.place[last].next
		c.left++
	}
	c.place[last].next = c.free
	c.free = uint16(token)
}

// settle puts what came back, chains and buffers, into bufs.
func (c *chains) settle(back []memtable.Buf, bufs Buffers) {
	from := 0
	for i := range back {
		if !back[i].VA.IsNil() || back[i].Addr != 0 {
			continue // a buffer of a frame that was lent without a chain
		}
		bufs.Put(back[from:i])
		from = i + 1
		c.lent--
		for p := uint16(back[i].Token); p != noPlace; p = c.place[p].next {
			c.out[0] = c.place[p].buf
			bufs.Put(c.out[:1])
		}
		c.forget(back[i].Token)
	}
	bufs.Put(back[from:])
}
