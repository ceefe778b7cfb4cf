package virtio_test

import (
	"encoding/binary"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// reference reads a ring as virtio 1.2, 2.7 has it, slowly and for one thread:
// what a queue takes must be what the reference sees.
type reference struct {
	ring virtio.Ring
	mem  *memtable.Table[memtable.GPA]
	feat virtio.Features
	dir  virtio.Dir
}

// piece is what a segment must be.
type piece struct {
	virtio.Seg
	write bool
}

// verdict is what the reference thinks of a chain. It is unsure where the
// specification lets a device do either.
type verdict uint8

const (
	bad verdict = iota
	fine
	unsure
)

func (r *reference) availIdx() uint16 { return binary.LittleEndian.Uint16(r.ring.Avail[2:]) }

// head is the available ring's entry at free-running index i.
func (r *reference) head(i uint16) uint16 {
	return binary.LittleEndian.Uint16(r.ring.Avail[4+2*int(i&(r.ring.Size-1)):])
}

func decode(b []byte) virtiotest.Desc {
	return virtiotest.Desc{
		Addr: memtable.GPA(binary.LittleEndian.Uint64(b)), Len: binary.LittleEndian.Uint32(b[8:]),
		Flags: binary.LittleEndian.Uint16(b[12:]), Next: binary.LittleEndian.Uint16(b[14:]),
	}
}

// chain reads the chain under head.
func (r *reference) chain(head uint16) ([]piece, verdict) {
	list, v := r.follow(uint64(r.ring.Size), head, func(i uint16) ([]byte, bool) { return r.ring.Desc[16*int(i):][:16], true })
	if v == bad {
		return nil, bad
	}
	// Only the last descriptor may name a table, and it has no other use.
	last := list[len(list)-1]
	for _, d := range list[:len(list)-1] {
		if d.Flags&virtiotest.Indirect != 0 {
			return nil, bad
		}
	}
	if last.Flags&virtiotest.Indirect == 0 {
		return r.pieces(list, fine)
	}
	n := uint64(last.Len) / 16
	if !r.feat.Has(virtio.FeatureIndirect) || last.Flags&virtiotest.Next != 0 || last.Len%16 != 0 || n == 0 || n > virtio.MaxSize {
		return nil, bad
	}
	in, v := r.follow(n, 0, func(i uint16) ([]byte, bool) {
		at := last.Addr + 16*memtable.GPA(i)
		parts, err := r.mem.Append(nil, at, 16)
		var b []byte
		for _, p := range parts {
			b = append(b, p...)
		}
		return b, err == nil && at >= last.Addr
	})
	if v == bad {
		return nil, bad
	}
	for _, d := range in {
		if d.Flags&virtiotest.Indirect != 0 {
			return nil, bad
		}
	}
	// A chain longer than the ring is the driver's fault; a device may serve it.
	if list = append(list[:len(list)-1], in...); len(list) > int(r.ring.Size) {
		v = unsure
	}
	return r.pieces(list, v)
}

// follow reads descriptors from first on, through a table of n, until one has no
// NEXT. A table ends after as many steps as it is long.
func (r *reference) follow(n uint64, first uint16, read func(i uint16) ([]byte, bool)) (list []virtiotest.Desc, v verdict) {
	for i := first; uint64(i) < n && uint64(len(list)) < n; {
		b, ok := read(i)
		if !ok {
			return nil, bad
		}
		d := decode(b)
		if list = append(list, d); d.Flags&virtiotest.Next == 0 || d.Flags&virtiotest.Indirect != 0 {
			return list, fine
		}
		i = d.Next
	}
	return nil, bad
}

// pieces translates a list of descriptors.
func (r *reference) pieces(list []virtiotest.Desc, v verdict) (out []piece, _ verdict) {
	writable := false
	for _, d := range list {
		w := d.Flags&virtiotest.Write != 0
		if writable && !w || w && r.dir == virtio.Readable || !w && r.dir == virtio.Writable {
			return nil, bad
		}
		writable = w
		for at, left := d.Addr, uint64(d.Len); left > 0; {
			va, n, err := r.mem.Span(at, left)
			if err != nil {
				return nil, bad
			}
			out = append(out, piece{virtio.Seg{VA: va, Len: uint32(n)}, w})
			at, left = at+memtable.GPA(n), left-n
		}
	}
	if len(out) == 0 {
		return nil, bad
	}
	return out, v
}
