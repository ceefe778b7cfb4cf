package view

import (
	"fmt"
	"io"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
)

// Disks prints what each disk is, and what was done with it.
func Disks(w io.Writer, l control.List[control.Disk]) error {
	t := text.NewTable("DISK", ">SIZE", "MODE", ">READS", ">READ", ">WRITES", ">WRITTEN", ">FLUSHES", ">DISCARDS", ">ZEROES",
		">FAILED", ">REFUSED", ">UNSUPPORTED", "FILE")
	for _, d := range l.Items {
		t.Row(d.Port, text.Size(d.Size), diskMode(d), d.Reads, text.Size(d.ReadBytes), d.Writes, text.Size(d.WriteBytes),
			d.Flushes, d.Discards, d.Zeroes, d.Failed, d.Refused, d.Unsupported, d.File)
	}
	if err := t.Write(w, ""); err != nil {
		return err
	}
	for _, d := range l.Items {
		if d.LastError == nil {
			continue
		}
		if _, err := fmt.Fprintf(w, "\n%s: %s\n", d.Port, failure(l.Time, d.LastError)); err != nil {
			return err
		}
	}
	return nil
}

func diskMode(d control.Disk) string {
	mode := "rw"
	if d.ReadOnly {
		mode = "ro"
	}
	if d.Direct {
		mode += ",direct"
	}
	return mode
}
