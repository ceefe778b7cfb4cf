package view

import (
	"io"
	"maps"
	"slices"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
)

// Stats prints frames and bytes of each queue pair and port, then the drops.
// Bytes are exact here: they are there to be compared.
func Stats(w io.Writer, l control.List[control.Stats]) error {
	t := text.NewTable("PORT", "PAIR", ">IN FRAMES", ">IN BYTES", ">OUT FRAMES", ">OUT BYTES", ">DROPS")
	drops := text.NewTable("PORT", "DROPPED BECAUSE", ">FRAMES")
	for _, s := range l.Items {
		for _, p := range s.Pairs {
			if len(s.Pairs) > 1 {
				t.Row(s.Port, p.Pair, p.InFrames, p.InBytes, p.OutFrames, p.OutBytes)
			}
		}
		var sum uint64
		for _, reason := range slices.Sorted(maps.Keys(s.Drops)) {
			if n := s.Drops[reason]; n > 0 {
				drops.Row(s.Port, reason, n)
				sum += n
			}
		}
		t.Row(s.Port, "all", s.InFrames, s.InBytes, s.OutFrames, s.OutBytes, sum)
	}
	if err := t.Write(w, ""); err != nil {
		return err
	}
	if drops.Len() == 0 {
		return nil
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return drops.Write(w, "")
}
