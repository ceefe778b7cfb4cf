package memfd

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// ByIOVA gives the table of all that is mapped, by the addresses that devices
// are told. r is the proof that the caller is inside a section of Options.Domain;
// it may be nil for who knows that nothing is freed meanwhile.
func (a *Arena) ByIOVA(r *memtable.Reader) *memtable.Table[memtable.IOVA] { return a.table.Load(r) }

// resolve finds out the IOVA of the extents of p.
func (a *Arena) resolve(p part, contiguous bool) error {
	c := p.c
	addr := make([]memtable.IOVA, p.n)
	for i := range addr {
		one := p.one(i)
		if addr[i] = memtable.IOVA(one.addr()); a.o.IOVA == IOVAAsVA {
			continue
		}
		pa, n, err := a.o.Resolver.Resolve(one.va(), c.unit)
		if err == nil && n < c.unit {
			err = fmt.Errorf("only %d bytes are in one piece", n)
		}
		if err != nil {
			return fmt.Errorf("the physical address of %v, %s: %w", one.va(), bytesText(c.unit), err)
		}
		addr[i] = memtable.IOVA(pa)
		if contiguous && i > 0 && addr[i] != addr[i-1]+memtable.IOVA(c.unit) {
			return &ShortageError{What: "physically contiguous memory", Node: c.node, Want: p.size(),
				Have: c.unit, Advice: "use larger pages, or an IOMMU (IOVAAsVA)"}
		}
	}
	i := 0
	a.mark(p, func(s *slot) { s.addr = addr[i]; i++ })
	return nil
}

// piece is a region of the table: contiguous here, for devices and in the file.
type piece struct {
	addr, off, size uint64 // off: in the reservation
}

func (p piece) end() uint64 { return p.addr + p.size }

// pieces gives those extents of p that do, by address. mu is held.
func (p part) pieces(do func(s *slot) bool) []piece {
	var all []piece
	for i := range p.n {
		if s := &p.c.slots[p.first+i]; s.addr != memtable.NoIOVA && do(s) {
			all = append(all, piece{uint64(s.addr), p.one(i).offset(), p.c.unit})
		}
	}
	slices.SortFunc(all, func(x, y piece) int { return cmp.Compare(x.addr, y.addr) })
	return all
}

// list makes look-ups find p. Neighbours become one region, so that a range
// may cross the border of extents.
func (a *Arena) list(p part) error {
	a.listing.Lock()
	defer a.listing.Unlock()
	var fresh []piece
	a.locked(func() { fresh = p.pieces(func(s *slot) bool { return !s.listed }) })
	if len(fresh) == 0 {
		a.mark(p, func(s *slot) { s.listed = true })
		return nil
	}
	remove := a.regions(p.c, fresh, 1)
	all := slices.Clone(fresh)
	for _, r := range remove {
		all = append(all, piece{uint64(r.Addr), p.c.offsetOf(r.Mem.VA()), r.Size})
	}
	slices.SortFunc(all, func(x, y piece) int { return cmp.Compare(x.addr, y.addr) })
	joined := all[:1]
	for _, next := range all[1:] {
		last := &joined[len(joined)-1]
		if last.end() == next.addr && last.off+last.size == next.off {
			last.size += next.size
		} else {
			joined = append(joined, next)
		}
	}
	if err := a.replace(p.c, remove, joined); err != nil {
		return err
	}
	a.mark(p, func(s *slot) { s.listed = true })
	return nil
}

// unlist makes look-ups find p no more.
func (a *Arena) unlist(p part) error {
	a.listing.Lock()
	defer a.listing.Unlock()
	var old []piece
	a.locked(func() { old = p.pieces(func(s *slot) bool { return s.listed }) })
	if len(old) == 0 {
		a.mark(p, func(s *slot) { s.listed = false })
		return nil
	}
	remove := a.regions(p.c, old, 0)
	var rest []piece
	for _, r := range remove {
		at := piece{uint64(r.Addr), p.c.offsetOf(r.Mem.VA()), r.Size}
		for len(old) > 0 && old[0].addr < at.end() {
			if lead := old[0].addr - at.addr; lead > 0 {
				rest = append(rest, piece{at.addr, at.off, lead})
			}
			skip := old[0].end() - at.addr
			at = piece{at.addr + skip, at.off + skip, at.size - skip}
			old = old[1:]
		}
		if at.size > 0 {
			rest = append(rest, at)
		}
	}
	if err := a.replace(p.c, remove, rest); err != nil {
		return err
	}
	a.mark(p, func(s *slot) { s.listed = false })
	return nil
}

// regions gives the regions of c that have some of the pieces, or that lie so
// many bytes from them.
func (a *Arena) regions(c *class, pieces []piece, near uint64) (found []memtable.Region[memtable.IOVA]) {
	all := a.table.Current().Regions()
	for _, p := range pieces {
		from := p.addr - min(p.addr, near)
		i, _ := slices.BinarySearchFunc(all, from, func(r memtable.Region[memtable.IOVA], from uint64) int {
			return cmp.Compare(uint64(r.Addr)+(r.Size-1), from)
		})
		for ; i < len(all) && uint64(all[i].Addr) < p.end()+near; i++ {
			r := all[i]
			known := len(found) > 0 && found[len(found)-1].Addr >= r.Addr
			if !known && r.Mem.Owner() == c.owner() {
				found = append(found, r)
			}
		}
	}
	return found
}

// replace publishes a table with other regions of c. Every piece gets a mapping
// of its own, so that a fault in it is known to be in memory of this arena, and
// one in a hole is not: that is a mistake of ours. The old mappings are closed
// by settle.
func (a *Arena) replace(c *class, remove []memtable.Region[memtable.IOVA], pieces []piece) error {
	var id memtable.FileID
	a.locked(func() {
		if c.file != nil {
			id = c.file.id
		}
	})
	add := make([]memtable.Region[memtable.IOVA], len(pieces))
	for i, p := range pieces {
		m := memtable.Wrap(c.mem[p.off:][:p.size], id, c.inFile(int(p.off/c.unit)), c.owner())
		add[i] = memtable.Region[memtable.IOVA]{Addr: memtable.IOVA(p.addr), Size: p.size, Mem: m}
	}
	next, err := a.table.Current().With(add, remove)
	if err != nil {
		for _, r := range add {
			_ = r.Mem.Close()
		}
		return errors.Join(errors.New("the addresses of new memory collide"), err)
	}
	a.table.Swap(next)
	a.locked(func() {
		for _, r := range remove {
			a.stale = append(a.stale, r.Mem)
		}
	})
	return nil
}
