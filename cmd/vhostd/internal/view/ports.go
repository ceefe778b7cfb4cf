package view

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
)

// Ports prints a line per port, and what went wrong last.
func Ports(w io.Writer, l control.List[control.Port]) error {
	t := text.NewTable("PORT", "GROUP", "STATE", ">SINCE", ">CONNECTS", "PEER", ">MTU", "FEATURES", "ROLE", "SOCKET")
	for _, p := range l.Items {
		t.Row(p.Name, p.Group, p.State, text.Age(l.Time.Sub(p.Since)), p.Connects, p.Peer,
			unless(p.MTU, 0), unless(p.Features.Bits, 0), p.Role, p.Socket)
	}
	if err := t.Write(w, ""); err != nil {
		return err
	}
	for _, p := range l.Items {
		if p.LastError == nil {
			continue
		}
		if _, err := fmt.Fprintf(w, "\n%s: %s\n", p.Name, failure(l.Time, p.LastError)); err != nil {
			return err
		}
	}
	return nil
}

// MACs prints what the switches have learned.
func MACs(w io.Writer, l control.List[control.MAC]) error {
	t := text.NewTable("GROUP", "MAC", "PORT", ">AGE")
	for _, m := range l.Items {
		t.Row(m.Group, m.MAC, m.Port, text.Age(seconds(m.Age)))
	}
	return t.Write(w, "")
}

// Messages prints what front-ends said last.
func Messages(w io.Writer, l control.List[control.Messages]) error {
	for i, m := range l.Items {
		if err := heading(w, i, "%s: %s", m.Port, m.Peer); err != nil {
			return err
		}
		t := text.NewTable(">AGO", "REQUEST", "DETAIL", "RESULT")
		for _, one := range m.Messages {
			t.Row(text.Age(l.Time.Sub(one.At)), one.Request, one.Detail, one.Result)
		}
		if err := t.Write(w, "  "); err != nil {
			return err
		}
	}
	return nil
}

// heading begins the block of item i; it is one line.
func heading(w io.Writer, i int, format string, args ...any) error {
	gap := ""
	if i > 0 {
		gap = "\n"
	}
	_, err := fmt.Fprintf(w, "%s%s\n", gap, text.Clean(fmt.Sprintf(format, args...)))
	return err
}

// failure writes the last error on one line: an error may have several, and
// some of its words may be a peer's.
func failure(now time.Time, f *control.Failure) string {
	words := text.Clean(strings.ReplaceAll(f.Error, "\n", "; "))
	return fmt.Sprintf("last error %s ago: %s", text.Age(now.Sub(f.At)), words)
}

// unless leaves a cell empty when there is nothing to tell.
func unless[T comparable](v, nothing T) string {
	if v == nothing {
		return ""
	}
	return fmt.Sprint(v)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
