package memview

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
	"github.com/vhostd/vhostd/memfd"
)

// Bounds of a picture, whatever the answer says: it stays below a mebibyte.
const (
	mostCells   = 6144 // of all classes
	fewestCells = 64   // of a class
	mostClasses = 48   // that are drawn
	mostHeaps   = 24
	columns     = 64 // cells in a row
	left        = 96 // where cells begin, in pixels
	width       = left + columns*pitch + 24
)

// drawing is a picture in the making.
type drawing struct {
	defs  strings.Builder
	body  strings.Builder
	looks map[look]int
	y     int
}

// SVG draws the map of all arenas.
func SVG(w io.Writer, i *memfd.Inspection) error {
	d := &drawing{looks: make(map[look]int), y: 30}
	d.text(24, d.y, "title", fmt.Sprintf("Memory of %s, pid %d", i.Program, i.PID))
	d.y += 18
	d.text(24, d.y, "note", i.Time.Format("2006-01-02 15:04:05 MST")+hugeLine(i))
	d.y += 16
	d.legend()
	classes := 0
	for a := range i.Arenas {
		classes += len(i.Arenas[a].Classes)
	}
	share := max(mostCells/max(min(classes, mostClasses), 1), fewestCells)
	left, heaps := mostClasses, mostHeaps
	for a := range i.Arenas {
		d.arena(&i.Arenas[a], share, &left, &heaps)
	}
	if len(i.Arenas) == 0 {
		d.y += 20
		d.text(24, d.y, "head", "No arena is open.")
	}
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d">
<style>text{font-family:system-ui,"Segoe UI","DejaVu Sans",sans-serif;fill:#20262c}.title{font-size:17px;font-weight:600}.head{font-size:14px;font-weight:600}.note{font-size:11px;fill:#56616b}.axis{font-size:10px;fill:#56616b;text-anchor:end}.tick{font-size:8.5px;fill:#56616b;text-anchor:middle}</style>
<defs>
%s%s</defs>
<rect width="100%%" height="100%%" fill="#fff"/>
%s</svg>
`, width, d.y+24, width, d.y+24, patterns, d.defs.String(), d.body.String())
	return err
}

// arena draws one, with so many cells for each class.
func (d *drawing) arena(l *memfd.Layout, cells int, classes, heaps *int) {
	d.y += 30
	fmt.Fprintf(&d.body, `<path d="M24 %dH%d" stroke="#20262c"/>`+"\n", d.y-18, width-24)
	d.text(24, d.y, "head", "Arena "+l.Name)
	d.text(24, d.y+15, "note", settingsLine(l))
	d.y += 18
	for i := range l.Classes {
		if *classes--; *classes >= 0 {
			d.class(&l.Classes[i], cells)
		}
	}
	d.heaps(l.Heaps, heaps)
}

// class draws one band.
func (d *drawing) class(c *memfd.ClassLayout, most int) {
	g := newGrid(c, most)
	d.y += 26
	d.text(24, d.y, "head", classTitle(c))
	d.text(24, d.y+14, "note", classLine(c))
	d.y += 22
	if len(g.cells) == 0 {
		return
	}
	d.sum(c)
	top := d.y
	for at := 0; at < len(g.cells); {
		l, about := lookOf(&g.cells[at]), g.cells[at].about
		n := at + 1
		for n < len(g.cells) && g.cells[n].about == about && lookOf(&g.cells[n]) == l {
			n++
		}
		d.run(g, at, n, top, l)
		at = n
	}
	rows := (len(g.cells)-1)/columns + 1
	for r := range rows {
		if r == 0 || rows <= 16 || r%4 == 0 {
			d.text(left-8, top+r*pitch+9, "axis", text.Size(uint64(r)*columns*g.cell))
		}
	}
	d.y = top + rows*pitch + 12
	scale := fmt.Sprintf("one cell is %s", text.Size(g.cell))
	if n := g.cell / g.extent; n > 1 {
		scale += fmt.Sprintf(", %d extents", n)
	}
	if end := uint64(len(g.cells)) * g.cell; end < c.Space {
		scale += fmt.Sprintf("; behind the last one %s of address space without memory", text.Size(c.Space-end))
	}
	d.text(left, d.y, "note", scale)
}

// sum draws a bar of what the class is used for.
func (d *drawing) sum(c *memfd.ClassLayout) {
	all := memfd.BlockLayout{Size: max(c.Mapped, 1), Amounts: c.Sum}
	x := float64(left)
	for _, k := range stack {
		share := sharesOf(&all)[k]
		if w := min(share*columns*pitch, float64(width-24)-x); w > 0 {
			d.body.WriteString("<g><title>" + escape(fmt.Sprintf("%s: %.1f %%", palette[k].name, 100*share)) + "</title>")
			kindRect(&d.body, k, x, float64(d.y), w, 7)
			d.body.WriteString("</g>\n")
			x += w
		}
	}
	d.text(left-8, d.y+7, "axis", "mapped")
	d.y += 13
}

// run draws cells that are alike, with one description.
func (d *drawing) run(g *grid, from, to, top int, l look) {
	if l == (look{}) {
		// Holes need no description, and are one shape for each row.
		for at := from; at < to; {
			n := min(to, (at/columns+1)*columns)
			x, y := left+at%columns*pitch, top+at/columns*pitch
			fmt.Fprintf(&d.body, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#dfe3e6" stroke-width=".6"/>`+"\n",
				x, y, (n-at)*pitch-(pitch-side), side)
			at = n
		}
		return
	}
	id, ok := d.looks[l]
	if !ok {
		id = len(d.looks)
		d.looks[l] = id
		fmt.Fprintf(&d.defs, `<g id="c%d">`, id)
		l.draw(&d.defs)
		d.defs.WriteString("</g>\n")
	}
	fmt.Fprintf(&d.body, "<g><title>%s</title>", escape(g.title(from, to)))
	for at := from; at < to; at++ {
		fmt.Fprintf(&d.body, `<use href="#c%d" x="%d" y="%d"/>`, id, left+at%columns*pitch, top+at/columns*pitch)
	}
	d.body.WriteString("</g>\n")
}

// title says what is in some cells.
func (g *grid) title(from, to int) string {
	c := &g.cells[from]
	s := fmt.Sprintf("%s from %s on", text.Size(uint64(to-from)*g.cell), text.Size(uint64(from)*g.cell))
	if c.about >= 0 {
		b := &g.c.Blocks[c.about]
		s += ", " + b.State
		if b.Owner != "" {
			s += ", " + b.Owner
		}
		if b.Shared {
			s += ", shared"
		}
		if b.Pinned {
			s += ", pinned"
		}
	}
	if n := c.share[used] + c.share[usedShared]; n > 0 {
		s += fmt.Sprintf(", %.0f %% used", 100*n)
	}
	return s
}

// legend draws each kind once.
func (d *drawing) legend() {
	const column = 214
	x, n := 24, 0
	next := func(name string, draw func(b *strings.Builder)) {
		fmt.Fprintf(&d.body, `<g transform="translate(%d %d)">`, x, d.y)
		draw(&d.body)
		d.body.WriteString("</g>\n")
		d.text(x+18, d.y+9, "note", name)
		if n++; n%4 == 0 {
			x, d.y = 24, d.y+18
		} else {
			x += column
		}
	}
	for k := range kinds {
		var l look
		l.part[k] = steps
		next(palette[k].name, l.draw)
	}
	next("half used", look{part: [kinds]uint8{used: steps / 2, vacant: steps / 2}}.draw)
	next("pinned", look{part: [kinds]uint8{usedShared: steps}, pinned: 2}.draw)
	next("pinned in part", look{part: [kinds]uint8{used: steps}, pinned: 1}.draw)
	next("address space without memory", look{}.draw)
}

// text writes a line. What it says may come from anybody.
func (d *drawing) text(x, y int, class, s string) {
	fmt.Fprintf(&d.body, `<text x="%d" y="%d" class="%s">%s</text>`+"\n", x, y, class, escape(s))
}

// longest is how many bytes of a name are drawn.
const longest = 160

func escape(s string) string {
	if len(s) > longest {
		s = s[:longest] + "…"
	}
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder never fails
	return b.String()
}
