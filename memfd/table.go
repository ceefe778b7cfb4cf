package memfd

import (
	"cmp"
	"errors"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// ByIOVA gives the table of all that is mapped, by the addresses that devices
// are told. r is the proof that the caller is inside a section of Options.Domain;
// it may be nil for who knows that nothing is freed meanwhile.
func (a *Arena) ByIOVA(r *memtable.Reader) *memtable.Table[memtable.IOVA] { return a.table.Load(r) }

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
	slices.SortFunc(all, byIOVA)
	return all
}

func byIOVA(x, y piece) int { return cmp.Compare(x.addr, y.addr) }

// joined makes one of pieces that follow one another, and sorts them.
func joined(all []piece) []piece {
	slices.SortFunc(all, byIOVA)
	var made []piece
	for _, next := range all {
		if n := len(made) - 1; n >= 0 && made[n].end() == next.addr && made[n].off+made[n].size == next.off {
			made[n].size += next.size
		} else {
			made = append(made, next)
		}
	}
	return made
}

// cut gives what regions of c have beside the pieces of old, which lie in them.
// All are sorted.
func (c *class) cut(regions []memtable.Region[memtable.IOVA], old []piece) (rest []piece) {
	for _, r := range regions {
		at := piece{uint64(r.Addr), c.offsetOf(r.Mem.VA()), r.Size}
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
	return rest
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
	if err := a.replace(p.c, remove, joined(append(p.c.cut(remove, nil), fresh...))); err != nil {
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
	if err := a.replace(p.c, remove, p.c.cut(remove, old)); err != nil {
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

// change is what a new table has other than the old one.
type change struct {
	add, remove []memtable.Region[memtable.IOVA]
}

// replace publishes a table with other regions of c.
func (a *Arena) replace(c *class, remove []memtable.Region[memtable.IOVA], pieces []piece) error {
	var ch change
	a.put(&ch, c, remove, pieces)
	return a.publish(ch)
}

// put adds to ch that regions of c are replaced. Every piece gets a mapping of
// its own, so that a fault in it is known to be in memory of this arena, and one
// in a hole is not: that is a mistake of ours.
func (a *Arena) put(ch *change, c *class, remove []memtable.Region[memtable.IOVA], pieces []piece) {
	var id memtable.FileID
	if f := c.shown.Load(); f != nil {
		id = f.id
	}
	for _, p := range pieces {
		m := memtable.Wrap(c.mem[p.off:][:p.size], id, c.inFile(int(p.off/c.unit)), c.owner())
		ch.add = append(ch.add, memtable.Region[memtable.IOVA]{Addr: memtable.IOVA(p.addr), Size: p.size, Mem: m})
	}
	ch.remove = append(ch.remove, remove...)
}

// publish makes look-ups find what ch says. The mappings it replaces are closed
// by settle. listing is held.
func (a *Arena) publish(ch change) error {
	next, err := a.table.Current().With(ch.add, ch.remove)
	if err != nil {
		for _, r := range ch.add {
			_ = r.Mem.Close()
		}
		why := "the addresses of new memory collide"
		if a.o.IOVA == IOVAAsPA {
			why += " (what was there before has moved: call Arena.Recheck)"
		}
		return errors.Join(errors.New(why), err)
	}
	a.table.Swap(next)
	a.locked(func() {
		for _, r := range ch.remove {
			a.stale = append(a.stale, r.Mem)
		}
	})
	return nil
}
