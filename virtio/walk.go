package virtio

import (
	"encoding/binary"
	"math"

	"github.com/vhostd/vhostd/memtable"
)

// walk collects the segments of one chain.
type walk struct {
	b     *Burst
	e     *Elem
	mem   *memtable.Table[memtable.GPA]
	dir   Dir
	start int    // where the chain's segments begin in b.over
	steps int    // descriptors seen, the indirect table's included
	limit int    // as many as the ring is long (virtio 1.2, 2.7.5.3.1)
	total uint64 // bytes
	work  int    // descriptors added, and their pieces
	write bool   // a writable descriptor was seen
}

// chain follows the chain from its first descriptor through the table.
func (w *walk) chain(ring *words, d descriptor, indirect bool) error {
	w.limit = int(ring.mask) + 1
	w.e.rest = uint32(w.start)
	for {
		if w.steps++; w.steps > w.limit {
			return errLoop
		}
		if d.flags&flagIndirect != 0 {
			// It ends the chain: INDIRECT and NEXT exclude each other.
			switch {
			case !indirect:
				return errNoFeature
			case d.flags&flagNext != 0:
				return errBoth
			}
			return w.table(d)
		}
		if err := w.add(d); err != nil {
			return err
		}
		if d.flags&flagNext == 0 {
			return nil
		}
		if d.next > ring.mask {
			return errNext
		}
		d = ring.descriptor(d.next)
	}
}

// tableMin is how many descriptors an indirect table may always have. The
// specification allows no more than the ring is long, but Linux makes block
// requests of 128 segments whatever the ring, and QEMU takes up to 1024.
const tableMin = 1024

// table follows an indirect table (virtio 1.2, 2.7.5.3). It lies in guest
// memory, maybe in pieces: each of its descriptors is copied once.
func (w *walk) table(d descriptor) error {
	n := uint64(d.len) / 16
	if d.len%16 != 0 || n == 0 || n > uint64(MaxSize) {
		return errTable
	}
	i, limit := uint64(0), min(n, uint64(max(w.limit, tableMin)))
	for steps := uint64(0); ; steps++ {
		// The descriptor that names the table is not one of its own.
		if steps >= limit {
			return errLoop
		}
		in, err := w.fetch(d.addr + i*16)
		if err != nil {
			return err
		}
		if in.flags&flagIndirect != 0 {
			return errNested
		}
		if err := w.add(in); err != nil {
			return err
		}
		if in.flags&flagNext == 0 {
			return nil
		}
		if i = uint64(in.next); i >= n {
			return errNext
		}
	}
}

// fetch copies one descriptor of an indirect table.
func (w *walk) fetch(addr uint64) (descriptor, error) {
	if va, ok := w.mem.At(memtable.GPA(addr), 16); ok {
		return load(va), nil
	}
	var raw [16]byte
	for done := uint64(0); done < 16; {
		va, n, err := w.mem.Span(memtable.GPA(addr+done), 16-done)
		if err != nil {
			return descriptor{}, errMemory
		}
		copy(raw[done:], va.Bytes(n))
		done += n
	}
	return decode(binary.LittleEndian.Uint64(raw[:]), binary.LittleEndian.Uint64(raw[8:])), nil
}

// add translates one descriptor. A descriptor without bytes adds nothing.
func (w *walk) add(d descriptor) error {
	w.work++
	writable := d.flags&flagWrite != 0
	if writable && w.dir == Readable || !writable && (w.dir == Writable || w.write) {
		return errDir
	}
	w.write = writable
	if d.len == 0 {
		return nil
	}
	if w.total += uint64(d.len); w.total > math.MaxUint32 {
		return errLong
	}
	w.e.Total = uint32(w.total)
	if va, ok := w.mem.At(memtable.GPA(d.addr), uint64(d.len)); ok && w.e.Segs < maxPieces {
		w.segment(Seg{va, d.len}, writable)
		return nil
	}
	for addr, left := d.addr, uint64(d.len); left > 0; {
		va, n, err := w.mem.Span(memtable.GPA(addr), left)
		if err != nil {
			return errMemory
		}
		if w.e.Segs >= maxPieces {
			return errPieces
		}
		w.work++
		w.segment(Seg{va, uint32(n)}, writable)
		addr, left = addr+n, left-n
	}
	return nil
}

// segment appends one piece.
func (w *walk) segment(s Seg, writable bool) {
	if w.e.Segs == 0 {
		w.e.Seg = s
	} else {
		w.b.over = append(w.b.over, s)
	}
	w.e.Segs++
	if !writable {
		w.e.read++
	}
}
