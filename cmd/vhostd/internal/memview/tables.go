package memview

import (
	"fmt"
	"io"
	"strings"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
	"github.com/vhostd/vhostd/memfd"
)

// mostRows is how many lines of a table people read. JSON has all.
const mostRows = 40

// writer writes until something fails.
type writer struct {
	w   io.Writer
	err error
}

func (w *writer) line(format string, args ...any) {
	if w.err == nil {
		_, w.err = fmt.Fprintln(w.w, text.Clean(fmt.Sprintf(format, args...)))
	}
}

// table writes a table that has rows, after an empty line.
func (w *writer) table(t *text.Table, left int) {
	if w.err != nil || t.Len() == 0 {
		return
	}
	if _, w.err = fmt.Fprintln(w.w); w.err == nil {
		w.err = t.Write(w.w, "  ")
	}
	if left > 0 {
		w.line("  … and %d more: --json has all", left)
	}
}

// Tables prints all arenas for people.
func Tables(to io.Writer, i *memfd.Inspection) error {
	w := &writer{w: to}
	w.line("pid %d, %s%s", i.PID, i.Program, hugeLine(i))
	for a := range i.Arenas {
		l := &i.Arenas[a]
		w.line("")
		w.line("arena %s: %s", l.Name, settingsLine(l))
		w.table(classes(l))
		for c := range l.Classes {
			if len(l.Classes[c].Blocks) > 0 {
				w.line("")
				w.line("  %s:", classTitle(&l.Classes[c]))
				w.table(blocks(&l.Classes[c]))
			}
		}
		w.table(heaps(l))
		w.table(pools(l))
		w.table(zones(l))
		w.table(watchers(l))
		w.table(waste(l))
	}
	if len(i.Arenas) == 0 {
		w.line("no arena is open")
	}
	return w.err
}

// rows gives the first of all, and how many are left.
func rows[T any](all []T) (some []T, left int) {
	n := min(len(all), mostRows)
	return all[:n], len(all) - n
}

// size leaves a cell empty when there is nothing.
func size(n uint64) string {
	if n == 0 {
		return ""
	}
	return text.Size(n)
}

func classes(l *memfd.Layout) (*text.Table, int) {
	t := text.NewTable(">PAGES", "NODE", "RESERVED AT", ">SPACE", "FILE", ">MAPPED", ">USED", ">VACANT", ">IDLE", ">SHARED", ">PINNED", ">QUARANTINED", ">LOST")
	some, left := rows(l.Classes)
	for _, c := range some {
		file := ""
		if c.File.Ino != 0 {
			file = fmt.Sprintf("%s %x:%d", c.File.Name, c.File.Dev, c.File.Ino)
		}
		if c.External != "" {
			file = "external: " + c.External
		}
		t.Row(text.Size(c.Page), nodeName(c.Node), c.VA, text.Size(c.Space), file, size(c.Mapped), size(c.Sum.Used), size(c.Sum.Vacant),
			size(c.Sum.Idle), size(c.Sum.Shared), size(c.Sum.Pinned), size(c.Sum.Quarantined), size(c.Sum.Lost))
	}
	return t, left
}

func blocks(c *memfd.ClassLayout) (*text.Table, int) {
	t := text.NewTable(">OFFSET", ">SIZE", "AT", "STATE", "OWNER", ">USED", "NODE", "")
	some, left := rows(joined(c.Blocks))
	for _, b := range some {
		var marks []string
		if b.Shared {
			marks = append(marks, "shared")
		}
		if b.Pinned {
			marks = append(marks, "pinned")
		}
		t.Row(text.Size(b.Offset), text.Size(b.Size), b.VA, b.State, b.Owner, size(b.Amounts.Used), nodeName(b.Node), strings.Join(marks, ", "))
	}
	return t, left
}

// joined makes one of neighbours that differ only in how full they are.
func joined(all []memfd.BlockLayout) (some []memfd.BlockLayout) {
	for _, b := range all {
		if n := len(some) - 1; n >= 0 {
			last := &some[n]
			if last.Offset+last.Size == b.Offset && last.State == b.State && last.Owner == b.Owner &&
				last.Shared == b.Shared && last.Pinned == b.Pinned && last.Node == b.Node {
				last.Size += b.Size
				last.Amounts.Used += b.Amounts.Used
				continue
			}
		}
		some = append(some, b)
	}
	return some
}

func heaps(l *memfd.Layout) (*text.Table, int) {
	t := text.NewTable("HEAP", ">ALLOCATIONS", ">USED", ">FREE", ">GREATEST", ">MAPPED", ">GROWN", ">RETURNED", "FREE PIECES")
	some, left := rows(l.Heaps)
	for _, h := range some {
		var free []string
		for _, f := range h.Free {
			free = append(free, fmt.Sprintf("%s×%d", short(f.Least), f.Count))
		}
		s := &h.Stats
		t.Row(h.Owner, s.Allocations, size(s.Used), size(s.Free), size(s.Greatest), size(s.Mapped), size(s.Grown), size(s.Returned), strings.Join(free, " "))
	}
	return t, left
}

func pools(l *memfd.Layout) (*text.Table, int) {
	t := text.NewTable("POOL", ">BUFFER", ">COUNT", ">LENT", ">CACHED", ">FREE", ">RESIDENT", ">REFUSED", ">MAPPED")
	some, left := rows(l.Pools)
	for _, p := range some {
		s := &p.Stats
		t.Row(p.Name, text.Size(p.Buffer), s.Count, s.Lent, s.Cached, s.Free, s.Resident, s.Refused, size(s.Mapped))
	}
	return t, left
}

func zones(l *memfd.Layout) (*text.Table, int) {
	t := text.NewTable("ZONE", "AT", "FOR DEVICES AT", ">SIZE", ">PAGES")
	some, left := rows(l.Zones)
	for _, z := range some {
		t.Row(z.Name, z.VA, z.Addr, text.Size(z.Size), text.Size(z.Page))
	}
	return t, left
}

// watchers are mirrors and validators.
func watchers(l *memfd.Layout) (*text.Table, int) {
	t := text.NewTable("WHO ELSE", "IS", ">KNOWS EXTENTS")
	mirrors, left := rows(l.Mirrors)
	for _, m := range mirrors {
		is := "a mirror"
		if m.Private {
			is = "a process of ours"
		}
		if m.Stopping {
			is += ", stopping"
		}
		t.Row(m.Name, is, m.Extents)
	}
	validators, more := rows(l.Validators)
	for _, v := range validators {
		t.Row(v.Name, "a validator of node "+nodeName(v.Node), "")
	}
	return t, left + more
}

func waste(l *memfd.Layout) (*text.Table, int) {
	t := text.NewTable(">A PEER OF REGIONS", ">NEEDS", ">IS GIVEN", ">OF THAT USED", ">WASTE", "")
	for _, one := range l.Waste {
		t.Row(one.Regions, one.Needed, size(one.Shared), size(one.Used), text.Size(one.Waste), one.Error)
	}
	return t, 0
}
