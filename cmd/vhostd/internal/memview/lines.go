package memview

import (
	"fmt"
	"strings"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
	"github.com/vhostd/vhostd/memfd"
)

// nodeName is a node for people.
func nodeName(node int) string {
	if node == memfd.AnyNode {
		return "any"
	}
	return fmt.Sprint(node)
}

// hugeLine tells of the machine's huge pages, after something else.
func hugeLine(i *memfd.Inspection) (s string) {
	for _, h := range i.Huge {
		s += fmt.Sprintf("; pages of %s: %d free of %d", text.Size(h.Page), h.Free, h.Total)
		if h.Reserved > 0 {
			s += fmt.Sprintf(", %d of them promised", h.Reserved)
		}
		if h.Surplus > 0 {
			s += fmt.Sprintf(", %d surplus", h.Surplus)
		}
	}
	return s
}

// settingsLine tells what an arena may do.
func settingsLine(l *memfd.Layout) string {
	s := &l.Settings
	var words []string
	for _, p := range s.Pages {
		words = append(words, "pages of "+text.Size(p.Size)+limited(p.Limited, p.Limit))
	}
	for _, n := range l.Nodes {
		w := fmt.Sprintf("%s mapped%s", text.Size(n.Mapped), limited(n.Limited, n.Limit))
		if n.Node != memfd.AnyNode {
			w = fmt.Sprintf("node %d: %s", n.Node, w)
		}
		if n.Minimum > 0 {
			w += ", never below " + text.Size(n.Minimum)
		}
		words = append(words, w)
	}
	if words = append(words, "devices are told "+strings.ToUpper(s.IOVA)); s.Reason != "" {
		words[len(words)-1] += " (" + s.Reason + ")"
	}
	if s.Bits > 0 {
		words = append(words, fmt.Sprintf("devices have %d address bits", s.Bits))
	}
	if s.Wish {
		words = append(words, "other nodes serve where one has no memory left")
	}
	switch {
	case s.Legacy:
		words = append(words, "legacy mode: all is mapped from the start, and stays")
	case s.Linger < 0:
		words = append(words, "free memory is never given back")
	default:
		words = append(words, fmt.Sprintf("free memory is given back after %v", s.Linger.Round(time.Millisecond)))
	}
	return strings.Join(words, "; ")
}

func limited(is bool, limit uint64) string {
	if !is {
		return ""
	}
	return fmt.Sprintf(" (at most %s)", text.Size(limit))
}

// classTitle says what memory a class is.
func classTitle(c *memfd.ClassLayout) string {
	s := "Pages of " + text.Size(c.Page)
	if c.External != "" {
		s = fmt.Sprintf("External memory %s, pages of %s", c.External, text.Size(c.Page))
	}
	if c.Node != memfd.AnyNode {
		s += fmt.Sprintf(", node %d", c.Node)
	}
	return s
}

// classLine tells of reservation and file.
func classLine(c *memfd.ClassLayout) string {
	s := fmt.Sprintf("%s reserved at %v; %s mapped", text.Size(c.Space), c.VA, text.Size(c.Mapped))
	if c.Mapped > 0 {
		s += ": " + amounts(&c.Sum)
	}
	if f := &c.File; f.Ino != 0 {
		s += fmt.Sprintf("; file %s (%x:%d), offsets 0 to %s", f.Name, f.Dev, f.Ino, text.Size(f.Size))
	}
	return s
}

// amounts lists what is not zero.
func amounts(a *memfd.Amounts) string {
	var words []string
	for _, one := range []struct {
		n    uint64
		what string
	}{
		{a.Used, "used"}, {a.Vacant, "vacant"}, {a.Idle, "idle"}, {a.Moving, "moving"}, {a.Quarantined, "quarantined"},
		{a.Lost, "lost"}, {a.Shared, "shared"}, {a.Pinned, "pinned"},
	} {
		if one.n > 0 {
			words = append(words, text.Size(one.n)+" "+one.what)
		}
	}
	return strings.Join(words, ", ")
}
