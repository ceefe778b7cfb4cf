package memfd

import (
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// parcel is what one message tells of.
type parcel struct {
	spaces []space // external memory that runs lie in
	runs   []run
	files  []int
}

// parcels tells of extents, in as many messages as that takes. What has no file
// cannot be mapped by anybody else, and is left out.
func (a *Arena) parcels(e []memtable.Extent) []parcel {
	k := packer{a: a, files: make(map[memtable.FileID]int), spaces: make(map[*class]int)}
	for _, x := range e {
		if c, off := a.classOf(x.VA); c != nil && x.FD >= 0 {
			k.add(c, uint32(off>>c.shift), x)
		}
	}
	k.close()
	return k.all
}

// packer fills parcels.
type packer struct {
	a    *Arena
	all  []parcel
	p    parcel // that is open
	n    int    // extents in it
	c    *class // of the last of them
	last memtable.Extent

	files  map[memtable.FileID]int // their numbers in p
	spaces map[*class]int
}

// add tells of x, which is extent i of c.
func (k *packer) add(c *class, i uint32, x memtable.Extent) {
	if k.n > 0 && k.n < maxRunning && k.c == c && adjoins(&k.last, &x) {
		k.p.runs[len(k.p.runs)-1].n++
		k.n, k.last = k.n+1, x
		return
	}
	_, filed := k.files[x.File]
	_, placed := k.spaces[c]
	if k.n == maxRunning || len(k.p.runs) == maxRuns || !filed && len(k.p.files) == maxFiles ||
		!placed && len(k.p.spaces) == maxSpaces {
		k.close()
	}
	if _, ok := k.files[x.File]; !ok {
		k.files[x.File] = len(k.p.files)
		k.p.files = append(k.p.files, x.FD)
	}
	k.p.runs = append(k.p.runs, run{uint16(k.space(c)), uint16(k.files[x.File]), x.Tag == Shared, i, 1, x.Addr, uint64(x.Offset)})
	k.n, k.c, k.last = k.n+1, c, x
}

// space gives the number of a class, as runs have it.
func (k *packer) space(c *class) int {
	if c.ext == nil {
		return slices.Index(k.a.classes, c)
	}
	if _, ok := k.spaces[c]; !ok {
		k.spaces[c] = len(k.a.classes) + len(k.p.spaces)
		k.p.spaces = append(k.p.spaces, spaceOf(c))
	}
	return k.spaces[c]
}

// close ends the parcel that is open.
func (k *packer) close() {
	if k.n > 0 {
		k.all = append(k.all, k.p)
	}
	k.p, k.n = parcel{}, 0
	clear(k.files)
	clear(k.spaces)
}

// adjoins tells whether y goes on where x ends, in all respects that a run tells.
func adjoins(x, y *memtable.Extent) bool {
	return y.File == x.File && y.Tag == x.Tag && y.Offset == x.Offset+int64(x.Size) &&
		y.Addr == x.Addr+memtable.IOVA(x.Size) && numberOf(y.VA) == numberOf(x.VA)+x.Size
}
