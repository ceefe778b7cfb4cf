package memfd

import (
	"math/bits"
	"os"
	"slices"
	"time"

	"github.com/vhostd/vhostd/memtable"
)

// space is a reservation as the other process has to make it, or a piece of
// external memory.
type space struct {
	first uint64 // address
	size  uint64 // bytes
	unit  uint64 // of an extent, bytes
	page  uint64 // bytes
	node  int
}

const spaceBytes = 36

// spaceOf describes a class.
func spaceOf(c *class) space { return space{c.first, uint64(len(c.mem)), c.unit, c.page, c.node} }

func encodeSpaces(e *encoder, all []space) {
	e.u16(uint16(len(all)))
	for _, s := range all {
		e.u64(s.first)
		e.u64(s.size)
		e.u64(s.unit)
		e.u64(s.page)
		e.u32(uint32(int32(s.node)))
	}
}

func decodeSpaces(d *decoder) (all []space, err error) {
	for range d.count(maxSpaces, spaceBytes) {
		s := space{d.u64(), d.u64(), d.u64(), d.u64(), int(int32(d.u32()))}
		if !s.sound() {
			return nil, &wireError{"address space that cannot be"}
		}
		all = append(all, s)
	}
	return all, nil
}

// sound tells whether there can be such a space. What is less than most never
// wraps, and a run of a message fits its numbers.
func (s space) sound() bool {
	return bits.OnesCount64(s.page) == 1 && s.page >= uint64(os.Getpagesize()) &&
		s.first != 0 && s.first <= most && s.first%s.page == 0 &&
		s.unit != 0 && s.unit <= most && s.unit%s.page == 0 &&
		s.size != 0 && s.size <= most && s.size%s.unit == 0 && s.size/s.unit <= 1<<31
}

// plot is all of them, and what else a secondary needs to know.
type plot struct {
	name     string
	deadline time.Duration // within which the primary wants to hear
	spaces   []space
}

func (p *plot) encode(e *encoder) {
	e.text(p.name)
	e.u64(uint64(p.deadline))
	encodeSpaces(e, p.spaces)
}

func decodePlot(d decoder) (p plot, err error) {
	p.name, p.deadline = d.text(), time.Duration(d.u64())
	if p.spaces, err = decodeSpaces(&d); err != nil {
		return plot{}, err
	}
	if p.deadline <= 0 || len(p.spaces) == 0 {
		d.bad = true
	}
	return p, d.end()
}

// run is extents of one space that follow one another: in it, in the file, and
// for devices.
type run struct {
	space  uint16 // one of the plot's, or counted on from there, of those in the message
	file   uint16 // which of the files that come with the message
	shared bool
	first  uint32 // extent
	n      uint32
	addr   memtable.IOVA // of the first one
	off    uint64        // of the first one in the file, bytes
}

const runBytes = 30

// encodeRuns writes runs, and the spaces in which they lie that no plot has.
func encodeRuns(e *encoder, spaces []space, runs []run) {
	encodeSpaces(e, spaces)
	e.u16(uint16(len(runs)))
	for _, r := range runs {
		e.u16(r.space)
		e.u16(r.file)
		e.flag(r.shared)
		e.u32(r.first)
		e.u32(r.n)
		e.u64(uint64(r.addr))
		e.u64(r.off)
	}
}

// decodeRuns reads runs that lie in the spaces of p, or in those that come with
// them, and name files that came.
func decodeRuns(d decoder, p *plot, files int) (more []space, runs []run, err error) {
	if more, err = decodeSpaces(&d); err != nil {
		return nil, nil, err
	}
	spaces := slices.Concat(p.spaces, more)
	all := 0
	for range d.count(maxRuns, runBytes) {
		r := run{d.u16(), d.u16(), d.flag(), d.u32(), d.u32(), memtable.IOVA(d.u64()), d.u64()}
		if int(r.space) >= len(spaces) || files >= 0 && int(r.file) >= files {
			return nil, nil, &wireError{"extents of an unknown space or file"}
		}
		s := spaces[r.space]
		if has := s.size / s.unit; r.n == 0 || uint64(r.n) > has || uint64(r.first) > has-uint64(r.n) {
			return nil, nil, &wireError{"extents that are not in their space"}
		}
		if r.off > most || r.off%s.page != 0 {
			return nil, nil, &wireError{"extents that lie nowhere in their file"}
		}
		if all += int(r.n); all > maxRunning {
			return nil, nil, &wireError{"too many extents at once"}
		}
		runs = append(runs, r)
	}
	return more, runs, d.end()
}

// grant is what was lent, or found.
type grant struct {
	at, addr  uint64
	size, has uint64 // bytes asked for, and there are
	token     uint64
}

func (g *grant) encode(e *encoder) {
	for _, v := range []uint64{g.at, g.addr, g.size, g.has, g.token} {
		e.u64(v)
	}
}

func decodeGrant(d *decoder) grant {
	return grant{d.u64(), d.u64(), d.u64(), d.u64(), d.u64()}
}

// wish is what a secondary asks for. Which fields count, the verb says.
type wish struct {
	verb      verb
	seq       uint32
	name      string
	at, token uint64
	zone      ZoneOptions // Size and Align are those of an allocation too
}

func (w *wish) encode(e *encoder) {
	e.text(w.name)
	for _, v := range []uint64{w.at, w.token, w.zone.Size, w.zone.Align, w.zone.Bound, w.zone.Page, w.zone.Hint} {
		e.u64(v)
	}
	e.u32(uint32(int32(w.zone.Node)))
	e.flag(w.zone.Contiguous)
	e.flag(w.zone.Biggest)
}

func decodeWish(m *message) (w wish, err error) {
	d := m.body
	w = wish{verb: m.verb, seq: m.seq, name: d.text(), at: d.u64(), token: d.u64()}
	w.zone = ZoneOptions{Size: d.u64(), Align: d.u64(), Bound: d.u64(), Page: d.u64(), Hint: d.u64(), Node: int(int32(d.u32())),
		Contiguous: d.flag(), Biggest: d.flag()}
	return w, d.end()
}
