package memview

import (
	"fmt"
	"math"
	"strings"
)

// The map's colours are told apart by people who do not see some of them, and
// each kind differs in more than its hue: shared memory is hatched, vacant memory
// is pale, what nobody has is dotted, and what is wrong is crossed.
var palette = [kinds]struct{ name, fill, over string }{
	used:         {"used, private", "#1f5f99", ""},
	usedShared:   {"used, shared", "#d9730d", "hatch"},
	vacant:       {"free in a heap or pool, private", "#c3dcf3", ""},
	vacantShared: {"free in a heap or pool, shared", "#fbdcb4", "hatch"},
	idle:         {"free, kept for the minimum", "#eef1ee", "dots"},
	moving:       {"coming or going", "#d8cfe8", "bars"},
	quarantined:  {"quarantined", "#c2477f", "cross"},
	lost:         {"lost", "#222222", ""},
}

// stack is the order of kinds in a cell, from its foot.
var stack = [...]kind{lost, quarantined, moving, usedShared, used, vacantShared, vacant, idle} // and in sums

const (
	side  = 11 // of a cell, in pixels
	pitch = 13 // from one cell to the next
	steps = 8  // of how full a cell is drawn
)

// look is how a cell is drawn: how much of it is what, in steps.
type look struct {
	part   [kinds]uint8
	pinned uint8 // 0: none of it; 1: some; 2: all
}

// lookOf rounds. What is there at all is seen, if there is room for it.
func lookOf(c *cell) (l look) {
	room := steps
	var sum float64
	for _, s := range c.share {
		sum += s
	}
	for _, k := range stack {
		if c.share[k] <= 0 {
			continue
		}
		n := min(max(int(math.Round(c.share[k]*steps)), 1), room)
		l.part[k] = uint8(n)
		room -= n
	}
	// Rounding may leave a gap in a cell that is full.
	if sum > 0.999 && room > 0 {
		for _, k := range stack {
			if l.part[k] > 0 && c.share[k]*steps > float64(l.part[k]) {
				l.part[k] += uint8(room)
				break
			}
		}
	}
	switch {
	case c.pinned > 0.999:
		l.pinned = 2
	case c.pinned > 0:
		l.pinned = 1
	}
	return l
}

// draw writes what a look is made of, at 0, 0.
func (l look) draw(b *strings.Builder) {
	fmt.Fprintf(b, `<rect width="%d" height="%d" fill="#fff" stroke="#c9ced3" stroke-width=".6"/>`, side, side)
	at := 0 // steps from the foot
	for _, k := range stack {
		n := int(l.part[k])
		if n == 0 {
			continue
		}
		at += n
		y, h := float64(steps-at)*side/steps, float64(n)*side/steps
		kindRect(b, k, 0, y, side, h)
	}
	switch l.pinned {
	case 2:
		fmt.Fprint(b, `<circle cx="5.5" cy="5.5" r="3.4" fill="#fff"/><circle cx="5.5" cy="5.5" r="2" fill="#111"/>`)
	case 1:
		fmt.Fprint(b, `<circle cx="5.5" cy="5.5" r="3.4" fill="#fff"/><path d="M5.5 3.5a2 2 0 0 0 0 4z" fill="#111"/>`)
	}
}

// kindRect draws a piece of one kind.
func kindRect(b *strings.Builder, k kind, x, y, w, h float64) {
	for _, fill := range []string{palette[k].fill, palette[k].over} {
		if fill == "" {
			continue
		}
		if fill[0] != '#' {
			fill = "url(#" + fill + ")"
		}
		fmt.Fprintf(b, `<rect x="%.4g" y="%.4g" width="%.4g" height="%.4g" fill="%s"/>`, x, y, w, h, fill)
	}
}

// patterns are what lies over the colours.
const patterns = `<pattern id="hatch" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="1.3" height="4" fill="#7a3b00" fill-opacity=".55"/></pattern>
<pattern id="dots" width="3.6" height="3.6" patternUnits="userSpaceOnUse"><circle cx="1.8" cy="1.8" r=".75" fill="#6b756b"/></pattern>
<pattern id="bars" width="3" height="4" patternUnits="userSpaceOnUse"><rect width="1" height="4" fill="#6a4fa3"/></pattern>
<pattern id="cross" width="5" height="5" patternUnits="userSpaceOnUse"><path d="M0 0L5 5M5 0L0 5" stroke="#fff" stroke-width="1.1"/></pattern>
`
