package vhost

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// model is what the back-end must believe after all that it accepted: written
// from the specification, and from the answers that came.
type model struct {
	w        *world
	net      bool // a network device: rings 0 and 2 are others' to fill
	features uint64
	protocol uint64
	status   uint64
	regions  []modelRegion
	log      area
	rings    [4]modelRing
	tainted  bool // rings, tables and buffers overlap: what comes back proves nothing
}

type modelRegion struct {
	gpa, size, uva uint64
	area           // where it lies in its file
}

type modelRing struct {
	size                    int
	located                 bool
	flags                   uint32
	descAt, availAt, usedAt uint64 // the front-end's addresses
	started, enabled        bool
	next                    uint16 // the next available index
	kick                    int    // file; -1: the clock
	suspect                 bool   // the driver wrote what breaks it
	ran                     bool   // since the start it had memory
	owed                    bool   // it must be looked at: it was kicked, or has begun

	seen   bool // since the start the ring was where it is now, and used.idx so
	at     area
	used16 uint16
	heads  []postedHead
}

// postedHead is a chain that is available, and how much may be written to it.
type postedHead struct {
	head uint16
	room uint64
}

// placed is where the parts of a ring lie; false: it has no memory.
func (m *model) placed(r *modelRing) (desc, avail, used area, ok bool) {
	if !r.started || !r.located || r.size == 0 {
		return
	}
	desc, ok1 := m.user(r.descAt, 16*r.size)
	avail, ok2 := m.user(r.availAt, 6+2*r.size)
	used, ok3 := m.user(r.usedAt, 6+8*r.size)
	// The addresses are aligned, but a region may begin anywhere in its file.
	aligned := desc.from%16 == 0 && avail.from%2 == 0 && used.from%4 == 0
	return desc, avail, used, ok1 && ok2 && ok3 && aligned
}

// user is n bytes at an address of the front-end's, in one region.
func (m *model) user(addr uint64, n int) (area, bool) {
	for _, r := range m.regions {
		if off := addr - r.uva; addr >= r.uva && off < r.size && r.size-off >= uint64(n) {
			return area{r.file, r.from + int(off), r.from + int(off) + n}, true
		}
	}
	return area{}, false
}

// guest is n bytes at a guest address, maybe in several regions that touch.
func (m *model) guest(addr, n uint64) (pieces []area, ok bool) {
	for n > 0 {
		i := slices.IndexFunc(m.regions, func(r modelRegion) bool { return addr >= r.gpa && addr-r.gpa < r.size })
		if i < 0 {
			return nil, false
		}
		r := m.regions[i]
		off := addr - r.gpa
		k := min(n, r.size-off)
		pieces = append(pieces, area{r.file, r.from + int(off), r.from + int(off+k)})
		if addr, n = addr+k, n-k; addr == 0 && n > 0 {
			return nil, false
		}
	}
	return pieces, true
}

// load copies guest memory; false: some of it is not there.
func (m *model) load(pieces []area) ([]byte, bool) {
	var b []byte
	for _, p := range pieces {
		f := &m.w.mem[p.file]
		if p.to > f.size {
			return nil, false
		}
		b = append(b, f.view[p.from:p.to]...)
	}
	return b, true
}

// chain is what a chain says.
type chain struct {
	write []area   // what it gives the device to write
	gpas  []uint64 // of each
	table []area   // its indirect table
	room  uint64
}

// walk follows the chain at head. A chain that is not valid gives nothing.
func (m *model) walk(r *modelRing, table area, head uint16) (c chain) {
	raw, ok := m.load([]area{table})
	if !ok || int(head) >= r.size {
		return chain{}
	}
	indirect, wrote := false, false
	for at, steps := int(head), 0; ; steps++ {
		if at*16+16 > len(raw) || steps >= 2048 {
			return chain{}
		}
		d := raw[16*at:]
		addr, n := binary.LittleEndian.Uint64(d), binary.LittleEndian.Uint32(d[8:])
		flags, next := binary.LittleEndian.Uint16(d[12:]), binary.LittleEndian.Uint16(d[14:])
		if flags&4 != 0 {
			if c.table, ok = m.guest(addr, uint64(n)); !ok || indirect || flags&1 != 0 || n == 0 || n%16 != 0 {
				return chain{}
			}
			if raw, ok = m.load(c.table); !ok {
				return chain{}
			}
			indirect, at = true, 0
			continue
		}
		pieces, ok := m.guest(addr, uint64(n))
		if !ok || wrote && flags&2 == 0 {
			return chain{}
		}
		if flags&2 != 0 {
			wrote = true
			c.room += uint64(n)
			for _, p := range pieces {
				c.write, c.gpas = append(c.write, p), append(c.gpas, addr)
				addr += uint64(p.to - p.from)
			}
		}
		if flags&1 == 0 {
			return c
		}
		at = int(next)
	}
}

// before is what the driver sees before the device's turn.
func (m *model) before() {
	m.judge()
	for i := range m.rings {
		r := &m.rings[i]
		r.heads = r.heads[:0]
		table, avail, used, ok := m.placed(r)
		if !ok {
			continue
		}
		now := m.w.u16(used.file, used.from+2)
		if r.seen && (r.at != used || r.used16 != now) {
			m.tainted = true // the driver meddled with what the device counts
		}
		r.seen, r.at, r.used16 = true, used, now
		idx := m.w.u16(avail.file, avail.from+2)
		r.suspect = r.suspect || int(idx-r.next) > r.size
		for n := r.next; n != idx && len(r.heads) < r.size; n++ {
			head := m.w.u16(avail.file, avail.from+4+2*(int(n)%r.size))
			r.suspect = r.suspect || int(head) >= r.size
			r.heads = append(r.heads, postedHead{head, m.walk(r, table, head).room})
		}
	}
}

// judge sees whether memory is used for two things at once.
func (m *model) judge() {
	parts, tables, lent := m.uses()
	for i, a := range parts {
		hits := func(b area) bool { return a.overlaps(b) }
		if slices.ContainsFunc(parts[i+1:], hits) || slices.ContainsFunc(tables, hits) || slices.ContainsFunc(lent, hits) {
			m.tainted = true
		}
	}
	for _, a := range tables {
		if slices.ContainsFunc(lent, a.overlaps) {
			m.tainted = true
		}
	}
}

// uses gives what memory is used for: parts of rings and the log, indirect
// tables, and buffers that the device may write to.
func (m *model) uses() (parts, tables, lent []area) {
	if m.log.to > 0 {
		parts = append(parts, m.log)
	}
	for i := range m.rings {
		r := &m.rings[i]
		table, avail, used, ok := m.placed(r)
		if !ok {
			continue
		}
		parts = append(parts, table, avail, used)
		for head := range r.size {
			c := m.walk(r, table, uint16(head))
			tables, lent = append(tables, c.table...), append(lent, c.write...)
		}
	}
	return parts, tables, lent
}

// allowed is where the device may write now.
func (m *model) allowed() []area {
	_, _, lent := m.uses()
	if m.log.to > 0 {
		lent = append(lent, m.log)
	}
	for i := range m.rings {
		if _, _, used, ok := m.placed(&m.rings[i]); ok {
			lent = append(lent, used)
		}
	}
	return lent
}

// dirty says whether the log misses a page of guest memory that was written.
func (m *model) dirty() error {
	if m.log.to == 0 || m.features&featureLogAll == 0 || m.tainted || m.w.shrunk {
		return nil
	}
	bits := m.w.mem[m.log.file].view[m.log.from:m.log.to]
	for i := range m.rings {
		r := &m.rings[i]
		table, _, _, ok := m.placed(r)
		if !ok {
			continue
		}
		for _, h := range r.heads {
			c := m.walk(r, table, h.head)
			for k, a := range c.write {
				if err := m.marked(bits, a, c.gpas[k]); err != nil {
					return fmt.Errorf("ring %d: %w", i, err)
				}
			}
		}
	}
	return nil
}

// marked looks for the bits of what was written of a, page by page.
func (m *model) marked(bits []byte, a area, gpa uint64) error {
	for a.from < a.to {
		n := min(guestPage-int(gpa%guestPage), a.to-a.from)
		page := gpa / guestPage
		if m.w.changed(area{a.file, a.from, a.from + n}) && page/8 < uint64(len(bits)) && bits[page/8]>>(page%8)&1 == 0 {
			return fmt.Errorf("guest page %#x was written and is not in the dirty log", page)
		}
		a.from, gpa = a.from+n, gpa+uint64(n)
	}
	return nil
}

// settle notes which rings run now.
func (m *model) settle() {
	for i := range m.rings {
		r := &m.rings[i]
		_, _, _, ok := m.placed(r)
		r.ran = r.ran || ok
	}
}

// after holds what came back against what was available.
func (m *model) after() error {
	for i := range m.rings {
		r := &m.rings[i]
		_, _, used, ok := m.placed(r)
		if !ok || m.tainted || m.w.shrunk {
			continue
		}
		n := m.w.u16(used.file, used.from+2) - r.used16
		if int(n) > len(r.heads) {
			return fmt.Errorf("ring %d: %d heads came back, %d were available", i, n, len(r.heads))
		}
		for k := range n {
			at := used.from + 4 + 8*(int(r.used16+k)%r.size)
			elem := m.w.mem[used.file].view[at:]
			id, length := binary.LittleEndian.Uint32(elem), binary.LittleEndian.Uint32(elem[4:])
			if want := r.heads[k]; id != uint32(want.head) || int(id) >= r.size || uint64(length) > want.room {
				return fmt.Errorf("ring %d: head %d came back with %d bytes, it was %d with room for %d", i, id, length, want.head, want.room)
			}
		}
		r.next, r.used16 = r.next+n, r.used16+n
	}
	return nil
}
