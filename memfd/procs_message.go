package memfd

import (
	"math/bits"
	"time"

	"github.com/vhostd/vhostd/memtable"
)

// space is a reservation as the other process has to make it.
type space struct {
	first uint64 // address
	size  uint64 // bytes
	unit  uint64 // of an extent, bytes
	page  uint64 // bytes
	node  int
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
	e.u16(uint16(len(p.spaces)))
	for _, s := range p.spaces {
		e.u64(s.first)
		e.u64(s.size)
		e.u64(s.unit)
		e.u64(s.page)
		e.u32(uint32(int32(s.node)))
	}
}

func decodePlot(d decoder) (p plot, err error) {
	p.name, p.deadline = d.text(), time.Duration(d.u64())
	for range d.count(maxFiles, 36) {
		s := space{d.u64(), d.u64(), d.u64(), d.u64(), int(int32(d.u32()))}
		// What is less than most never wraps, and a run of a message fits its numbers.
		if s.first == 0 || s.first > most || s.size > most || bits.OnesCount64(s.unit) != 1 || s.unit < quantum ||
			s.size == 0 || s.first%s.unit != 0 || s.size%s.unit != 0 || s.size/s.unit > 1<<31 {
			return plot{}, &wireError{"address space that cannot be"}
		}
		p.spaces = append(p.spaces, s)
	}
	if p.deadline <= 0 || len(p.spaces) == 0 {
		d.bad = true
	}
	return p, d.end()
}

// run is extents of one space that follow one another, in it and for devices.
type run struct {
	space  uint16
	file   uint16 // which of the files that come with the message
	shared bool
	first  uint32 // extent
	n      uint32
	addr   memtable.IOVA // of the first one
}

const runBytes = 22

func encodeRuns(e *encoder, runs []run) {
	e.u16(uint16(len(runs)))
	for _, r := range runs {
		e.u16(r.space)
		e.u16(r.file)
		e.flag(r.shared)
		e.u32(r.first)
		e.u32(r.n)
		e.u64(uint64(r.addr))
	}
}

// decodeRuns reads runs that lie in the spaces of p, and name files that came.
func decodeRuns(d decoder, p *plot, files int) ([]run, error) {
	var runs []run
	all := 0
	for range d.count(maxRuns, runBytes) {
		r := run{d.u16(), d.u16(), d.flag(), d.u32(), d.u32(), memtable.IOVA(d.u64())}
		if int(r.space) >= len(p.spaces) || files >= 0 && int(r.file) >= files {
			return nil, &wireError{"extents of an unknown space or file"}
		}
		s := p.spaces[r.space]
		if has := s.size / s.unit; r.n == 0 || uint64(r.n) > has || uint64(r.first) > has-uint64(r.n) {
			return nil, &wireError{"extents that are not in their space"}
		}
		if all += int(r.n); all > maxRunning {
			return nil, &wireError{"too many extents at once"}
		}
		runs = append(runs, r)
	}
	return runs, d.end()
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
	for _, v := range []uint64{w.at, w.token, w.zone.Size, w.zone.Align, w.zone.Bound, w.zone.Page} {
		e.u64(v)
	}
	e.u32(uint32(int32(w.zone.Node)))
	e.flag(w.zone.Contiguous)
	e.flag(w.zone.Biggest)
}

func decodeWish(m *message) (w wish, err error) {
	d := m.body
	w = wish{verb: m.verb, seq: m.seq, name: d.text(), at: d.u64(), token: d.u64()}
	w.zone = ZoneOptions{Size: d.u64(), Align: d.u64(), Bound: d.u64(), Page: d.u64(), Node: int(int32(d.u32())),
		Contiguous: d.flag(), Biggest: d.flag()}
	return w, d.end()
}
