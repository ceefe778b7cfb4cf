package fabric

import (
	"bytes"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost/vhosttest"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// bare is a guest whose rings a test lays by hand: nothing is posted for it.
type bare struct {
	*vhosttest.Guest
	h   *hall
	mem []byte // all of its memory
}

// bare connects a guest to port i.
func (h *hall) bare(i int, o vhosttest.Options) *bare {
	h.tb.Helper()
	o.Hole = true
	g := h.plug(i, o)
	mem, err := unix.Mmap(g.FD, 0, int(g.Region.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		h.tb.Fatal(err)
	}
	h.tb.Cleanup(func() { _ = unix.Munmap(mem) })
	return &bare{g, h, mem}
}

// at is the memory at a guest address.
func (b *bare) at(gpa uint64, n int) []byte { return b.mem[gpa-uint64(b.Region.GPA):][:n] }

// shape is how the pieces of a chain are described: by the ring's descriptors,
// or by an indirect table.
type shape struct{ indirect bool }

// chain lays a chain of pieces at addr, none of which touches the next, and
// gives their addresses. Its descriptors begin at index first.
func (s shape) chain(r *vhosttest.Ring, first uint16, addr uint64, flags uint16, sizes ...int) (at []uint64) {
	var list []vhosttest.Desc
	for k, n := range sizes {
		at = append(at, addr)
		list = append(list, vhosttest.Desc{Addr: addr, Len: uint32(n), Flags: flags | vhosttest.DescNext, Next: uint16(k + 1)})
		addr += uint64(n) + 3
	}
	last := &list[len(list)-1]
	last.Flags, last.Next = flags, 0
	if s.indirect {
		r.Describe(first, vhosttest.Desc{Addr: r.Table(list...), Len: uint32(16 * len(list)), Flags: vhosttest.DescIndirect})
		return at
	}
	for k, d := range list {
		d.Next += first
		r.Describe(first+uint16(k), d)
	}
	return at
}

// post makes a chain of pieces available for a frame to be received, each byte
// of them 0xee, and gives their addresses.
func (b *bare) post(s shape, first uint16, sizes ...int) []uint64 {
	rx := b.Pairs[0].RX
	at := s.chain(rx, first, rx.Buffer(int(first)), vhosttest.DescWrite, sizes...)
	for k, n := range sizes {
		copy(b.at(at[k], n), bytes.Repeat([]byte{0xee}, n))
	}
	rx.Expose(first)
	rx.Publish()
	return at
}

// transmit sends one chain and waits until it is given back.
func (b *bare) transmit(s shape, pieces ...[]byte) {
	b.h.tb.Helper()
	tx := b.Pairs[0].TX
	sizes := make([]int, len(pieces))
	for k, p := range pieces {
		sizes[k] = len(p)
	}
	at := s.chain(tx, 0, tx.Buffer(0), 0, sizes...)
	for k, p := range pieces {
		copy(b.at(at[k], len(p)), p)
	}
	tx.Expose(0)
	tx.Publish()
	if head, n := b.back(tx); head != 0 || n != 0 {
		b.h.tb.Errorf("head %d came back with length %d", head, n)
	}
}

// back waits for the next used element.
func (b *bare) back(r *vhosttest.Ring) (head, n uint32) {
	b.h.tb.Helper()
	b.h.until("a chain comes back", func() (ok bool) { head, n, ok = r.Back(); return ok })
	return head, n
}

// cuts are ways to cut n bytes into pieces: whole, in two at every place up to a
// few bytes behind the longest header, byte by byte at the front, all byte by byte.
func cuts(n int) (all [][]int) {
	all = append(all, []int{n})
	for k := 1; k <= vnet.MaxHeader+ethLen+2; k++ {
		all = append(all, []int{k, n - k})
	}
	for _, ones := range []int{1, 11, 12, 13, vnet.MaxHeader + ethLen + 2, n - 1} {
		all = append(all, append(slices.Repeat([]int{1}, ones), n-ones))
	}
	return append(all, []int{5, 7, 6, 6, 2, n - 26}, []int{10, 2, n - 12}, []int{3, 20, n - 23})
}

// cut gives the pieces of p.
func cut(p []byte, sizes []int) (pieces [][]byte) {
	for _, n := range sizes {
		pieces = append(pieces, p[:n])
		p = p[n:]
	}
	return pieces
}
