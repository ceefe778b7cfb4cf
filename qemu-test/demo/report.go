package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	qemutest "github.com/vhostd/vhostd/qemu-test"
)

// report is what the demo has to tell.
type report struct {
	QEMU    string                `json:"qemu"`
	Kernel  string                `json:"kernel"`
	Pings   []pingRow             `json:"pings"`
	Streams []streamRow           `json:"streams"`
	Stats   []qemutest.PortStats  `json:"stats"`
	Memory  []qemutest.PortMemory `json:"memory"`

	memory string // as vhostd show prints it
}

// ask takes the daemon's own counts.
func (r *report) ask(ctx context.Context, d *qemutest.Daemon) (err error) {
	if r.Stats, err = qemutest.Show[qemutest.PortStats](ctx, d, "stats"); err != nil {
		return err
	}
	if r.Memory, err = qemutest.Show[qemutest.PortMemory](ctx, d, "mem"); err != nil {
		return err
	}
	r.memory, err = d.ShowText(ctx, "mem")
	return err
}

// tables prints it for people.
func (r *report) tables(w io.Writer) error {
	fmt.Fprintf(w, "\nTwo guests (Linux %s, %s), vhostd between them.\n", r.Kernel, r.QEMU)
	t := newTable(w, "Ping", "from\tto\taddress\tsent\tanswered\tmin ms\tavg ms\tmax ms\t")
	ms := func(us int64) string { return fmt.Sprintf("%.2f", float64(us)/1000) }
	for _, p := range r.Pings {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t\n", p.From, p.To, p.Addr, p.Sent, p.Received, ms(p.Min), ms(p.Avg), ms(p.Max))
	}
	t.Flush()
	t = newTable(w, "TCP, checked byte by byte", "from\tto\t\tMB\tMbit/s\txxHash64 at both ends\t")
	for _, s := range r.Streams {
		fmt.Fprintf(t, "%s\t%s\t%s\t%.1f\t%.0f\t%s\t\n", s.From, s.To, s.How, float64(s.Bytes)/1e6, s.Rate, s.Sum)
	}
	t.Flush()
	t = newTable(w, "Frames at vhostd's ports", "port\tfrom guest\tMB\tto guest\tMB\t")
	for _, s := range r.Stats {
		fmt.Fprintf(t, "%s\t%d\t%.1f\t%d\t%.1f\t\n", s.Port, s.InFrames, float64(s.InBytes)/1e6, s.OutFrames, float64(s.OutBytes)/1e6)
	}
	t.Flush()
	t = newTable(w, "Drops", "port\treason\tframes\t")
	for _, s := range r.Stats {
		for _, reason := range slices.Sorted(maps.Keys(s.Drops)) {
			fmt.Fprintf(t, "%s\t%s\t%d\t\n", s.Port, reason, s.Drops[reason])
		}
		if len(s.Drops) == 0 {
			fmt.Fprintf(t, "%s\tnone\t0\t\n", s.Port)
		}
	}
	t.Flush()
	_, err := fmt.Fprintf(w, "\nMemory that the guests share with vhostd\n\n%s", r.memory)
	return err
}

// newTable begins a table with right-aligned columns.
func newTable(w io.Writer, title, heads string) *tabwriter.Writer {
	fmt.Fprintf(w, "\n%s\n\n", title)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, heads)
	return t
}
