package view

import (
	"fmt"
	"io"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
)

// Memory prints what each front-end shares, region by region.
func Memory(w io.Writer, l control.List[control.Memory]) error {
	for i, m := range l.Items {
		changed := "never"
		if !m.Changed.IsZero() {
			changed = text.Age(l.Time.Sub(m.Changed)) + " ago"
		}
		err := heading(w, i, "%s: %s, %d of %d slots, changed %s", m.Port, m.Peer, len(m.Regions), m.Slots, changed)
		if err != nil {
			return err
		}
		if len(m.Regions) == 0 {
			continue // connected, and nothing is shared yet
		}
		_, err = fmt.Fprintf(w, "  looked up by guest address: %s; by peer address: %s\n", index(m.ByGuest), index(m.ByPeer))
		if err != nil {
			return err
		}
		if err := regions(l, m).Write(w, "  "); err != nil {
			return err
		}
	}
	return nil
}

func regions(l control.List[control.Memory], m control.Memory) *text.Table {
	t := text.NewTable(">GUEST ADDRESS", ">SIZE", ">PEER ADDRESS", "FILE", ">OFFSET", ">PAGE", "SEALS", ">RESIDENT", ">MAPPED AT", ">AGE")
	for _, r := range m.Regions {
		t.Row(r.Guest, text.Size(r.Size), r.Peer, fmt.Sprintf("%s:%d", r.Device, r.Inode), control.Hex(r.Offset),
			text.Size(r.PageSize), r.Seals, text.Size(r.Resident), r.Mapped, text.Age(l.Time.Sub(r.Since)))
	}
	t.Row("total", text.Size(m.Size), "", "", "", "", "", text.Size(m.Resident))
	return t
}

// index says which kind of look-up is in use and what it costs.
func index(i control.Index) string {
	if i.Frame == 0 { // a search has no frames
		return i.Kind
	}
	return fmt.Sprintf("%s, frames of %s, %s", i.Kind, text.Size(i.Frame), text.Size(i.Bytes))
}
