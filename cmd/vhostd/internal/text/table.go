package text

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Table collects rows and writes them with aligned columns.
type Table struct {
	heads []string
	right []bool
	rows  [][]string
}

// NewTable makes a table; a head that begins with > has its column aligned to
// the right, as numbers are.
func NewTable(heads ...string) *Table {
	t := &Table{right: make([]bool, len(heads))}
	for i, h := range heads {
		h, t.right[i] = strings.CutPrefix(h, ">")
		t.heads = append(t.heads, h)
	}
	return t
}

// Row adds a row; cells are written with their default format. A cell that is
// empty or left out becomes a dash.
func (t *Table) Row(cells ...any) {
	row := make([]string, len(t.heads))
	for i := range row {
		if i < len(cells) {
			row[i] = Clean(fmt.Sprint(cells[i]))
		}
		if row[i] == "" {
			row[i] = "-"
		}
	}
	t.rows = append(t.rows, row)
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Write writes heads and rows, each line after indent.
func (t *Table) Write(w io.Writer, indent string) error {
	widths := make([]int, len(t.heads))
	for _, row := range append([][]string{t.heads}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range append([][]string{t.heads}, t.rows...) {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				line.WriteString("  ")
			}
			if t.right[i] {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
		}
		b.WriteString(indent + strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Clean makes s safe for a terminal: some of what is shown a peer wrote.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}
