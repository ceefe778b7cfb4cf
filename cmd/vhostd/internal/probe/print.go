package probe

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
)

// Print writes a report for people.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "device             %s (%s)\n", r.Device, text.Clean(r.Because))
	line := func(name string, n *uint64, format string) {
		if n != nil {
			fmt.Fprintf(&b, "%-18s %s\n", name, fmt.Sprintf(format, *n))
		}
	}
	queues := "queues"
	if r.Device == "net" {
		queues = "queue pairs"
	}
	line(queues, r.Queues, "%d")
	line("memory slots", r.Slots, "%d")
	line("status", r.Status, "%d")
	if r.Inflight != nil {
		fmt.Fprintf(&b, "%-18s %s\n", "in-flight record", text.Size(r.Inflight.Size)+" for a ring of 128")
	}
	list(&b, "features", r.Features)
	list(&b, "protocol features", r.Protocol)
	for _, part := range []func(io.Writer) error{r.printConfig, r.printMessages, r.printUnusual} {
		if err := part(&b); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// list writes names in lines that are not too long.
func list(b *strings.Builder, what string, bits Bits) {
	const width = 100
	line := fmt.Sprintf("%-18s %s", what, bits.Value)
	for _, name := range bits.Names {
		if len(line)+1+len(name) > width {
			b.WriteString(line + "\n")
			line = strings.Repeat(" ", 18)
		}
		line += " " + name
	}
	b.WriteString(line + "\n")
}

func (r *Report) printConfig(w io.Writer) error {
	if r.ConfigRaw == "" {
		return nil
	}
	if len(r.Config) == 0 {
		_, err := fmt.Fprintf(w, "\nconfiguration      %s\n", r.ConfigRaw)
		return err
	}
	t := text.NewTable("CONFIGURATION", "VALUE")
	for _, f := range r.Config {
		if f.Valid { // the others have no meaning
			t.Row(f.Name, f.Value)
		}
	}
	fmt.Fprintln(w)
	return t.Write(w, "")
}

func (r *Report) printMessages(w io.Writer) error {
	t := text.NewTable("MESSAGE", "SENT", "ANSWER", "", ">TOOK")
	for _, m := range r.Messages {
		t.Row(m.Request, m.Sent, m.Answer, m.Detail, m.Took.Round(time.Microsecond))
	}
	fmt.Fprintln(w)
	return t.Write(w, "")
}

func (r *Report) printUnusual(w io.Writer) error {
	if len(r.Unusual) == 0 {
		_, err := fmt.Fprintln(w, "\nnothing unusual")
		return err
	}
	fmt.Fprintln(w, "\nUNUSUAL")
	for _, f := range r.Unusual {
		if _, err := fmt.Fprintf(w, "* %s\n      %s\n", text.Clean(f.What), text.Clean(f.Why)); err != nil {
			return err
		}
	}
	return nil
}
