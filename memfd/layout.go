package memfd

import "github.com/vhostd/vhostd/memtable"

// Layout is all there is to show of an arena at one moment.
type Layout struct {
	Classes []ClassLayout // in order of preference
	Mirrors int           // that follow
}

// ClassLayout is the memory of one page size and node.
type ClassLayout struct {
	External string          // name of the external memory or of its heap; "": memory of the arena
	Page     uint64          // bytes
	Node     int             // AnyNode: wherever the kernel puts it
	Extent   uint64          // bytes
	VA       memtable.VA     // of the reservation
	Space    uint64          // of the reservation, bytes
	File     memtable.FileID // zero: there is none
	Mapped   uint64          // bytes
	Blocks   []BlockLayout   // by offset, without what is free
}

// BlockLayout is a run of extents that are alike.
type BlockLayout struct {
	VA     memtable.VA
	Offset uint64 // in the file, bytes
	Size   uint64 // bytes
	State  string // "live", "idle", "arriving", "leaving", "going", "quarantined", "lost"
	Owner  string
	Shared bool
}

// Layout tells what is reserved, mapped and handed out, and to whom.
func (a *Arena) Layout() Layout {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := Layout{Mirrors: len(a.followers)}
	for _, c := range a.everywhere() {
		cl := ClassLayout{External: c.ext.Name(), Page: c.page, Node: c.node, Extent: c.unit, VA: c.base, Space: uint64(len(c.mem))}
		if c.file != nil {
			cl.File = c.file.id
		}
		for _, p := range c.all().runs(func(s *slot) bool { return s.state != free }) {
			cl.Blocks = append(cl.Blocks, p.layout()...)
		}
		for _, p := range c.all().runs(func(s *slot) bool { return s.mapped }) {
			cl.Mapped += p.size()
		}
		l.Classes = append(l.Classes, cl)
	}
	return l
}

// layout cuts p where its extents differ. mu is held.
func (p part) layout() []BlockLayout {
	var all []BlockLayout
	for i, s := range p.slots() {
		b := BlockLayout{VA: p.one(i).va(), Offset: uint64(p.c.inFile(p.first + i)), Size: p.c.unit,
			State: s.state.String(), Owner: s.owner, Shared: s.shared}
		if n := len(all) - 1; n >= 0 {
			last := &all[n]
			if last.State == b.State && last.Owner == b.Owner && last.Shared == b.Shared {
				last.Size += b.Size
				continue
			}
		}
		all = append(all, b)
	}
	return all
}
