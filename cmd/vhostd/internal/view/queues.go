package view

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
)

// Queues prints what each port agreed on, then its rings in three tables: how
// they are set up, what both sides wrote into them, and what went through.
func Queues(w io.Writer, l control.List[control.Queues]) error {
	for i, q := range l.Items {
		if err := heading(w, i, "%s: %s for %s", q.Port, q.State, text.Age(l.Time.Sub(q.Since))); err != nil {
			return err
		}
		if _, err := io.WriteString(w, agreed(l.Time, q)); err != nil {
			return err
		}
		if len(q.Rings) == 0 {
			continue
		}
		for _, t := range []*text.Table{setup(q.Rings), indices(q.Rings), traffic(q.Rings)} {
			if _, err := io.WriteString(w, "\n"); err != nil {
				return err
			}
			if err := t.Write(w, "  "); err != nil {
				return err
			}
		}
		if err := bad(w, q.Rings); err != nil {
			return err
		}
	}
	return nil
}

// agreed is what there is once per connection.
func agreed(now time.Time, q control.Queues) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", name, text.Clean(fmt.Sprintf(format, args...)))
	}
	line("socket", "%s (%s)", q.Socket, q.Role)
	line("connects", "%d (%d again)", q.Connects, max(q.Connects, 1)-1)
	if q.Peer != "" {
		line("peer", "%s", q.Peer)
		line("offered", "%s", features(q.Offered))
		line("features", "%s", features(q.Features))
		line("protocol", "%s", features(q.Protocol))
		line("status", "%s, dirty log %s", q.Status, onOff(q.Logging))
	}
	if q.LastError != nil {
		line("error", "%s", failure(now, q.LastError))
	}
	return b.String()
}

func features(f control.Bits) string {
	return strings.TrimSpace(fmt.Sprintf("%s %s", f.Bits, strings.Join(f.Names, " ")))
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// setup is what the front-end configured.
func setup(rings []control.Ring) *text.Table {
	t := text.NewTable(">RING", "NAME", ">SIZE", "STATE", ">DESC", ">AVAIL", ">USED", ">KICK FD", ">CALL FD", ">ERR FD")
	for _, r := range rings {
		t.Row(r.Index, r.Name, r.Size, state(r), unless(r.Desc, 0), unless(r.Avail, 0), unless(r.Used, 0),
			unless(r.KickFD, -1), unless(r.CallFD, -1), unless(r.ErrFD, -1))
	}
	return t
}

// state is the ring's in one word (vhost-user, Ring states); why one is broken
// is told below the tables.
func state(r control.Ring) string {
	switch {
	case r.Broken != "":
		return "broken"
	case !r.Started:
		return "stopped"
	case !r.Enabled:
		return "disabled"
	case r.Polled:
		return "polled"
	}
	return "running"
}

// indices are what both sides wrote.
func indices(rings []control.Ring) *text.Table {
	t := text.NewTable(">RING", ">LAST_AVAIL", ">LAST_USED", ">AVAIL.FLAGS", ">AVAIL.IDX", ">USED_EVENT",
		">USED.FLAGS", ">USED.IDX", ">AVAIL_EVENT")
	for _, r := range rings {
		t.Row(r.Index, r.LastAvail, r.LastUsed, r.AvailFlags, r.AvailIdx, r.UsedEvent, r.UsedFlags, r.UsedIdx, r.AvailEvent)
	}
	return t
}

// traffic is what went through.
func traffic(rings []control.Ring) *text.Table {
	t := text.NewTable(">RING", ">KICKS", ">CALLS", ">SUPPRESSED", ">BURSTS", ">CHAINS", ">AVG BURST", ">WRITTEN", ">BAD CHAINS")
	for _, r := range rings {
		average := ""
		if r.Bursts > 0 {
			average = fmt.Sprintf("%.1f", float64(r.Chains)/float64(r.Bursts))
		}
		var sum uint64
		for _, n := range r.BadChains {
			sum += n
		}
		t.Row(r.Index, r.Kicks, r.Calls, r.CallsSuppressed, r.Bursts, r.Chains, average, text.Size(r.Bytes), sum)
	}
	return t
}

// bad tells what was wrong with rings and chains, when something was.
func bad(w io.Writer, rings []control.Ring) error {
	var b strings.Builder
	for _, r := range rings {
		if r.Broken != "" {
			fmt.Fprintf(&b, "  ring %d is broken: %s\n", r.Index, text.Clean(r.Broken))
		}
		for _, reason := range slices.Sorted(maps.Keys(r.BadChains)) {
			last := ""
			if reason == r.LastBad {
				last = " (the last)"
			}
			fmt.Fprintf(&b, "  ring %d: %d bad chains: %s%s\n", r.Index, r.BadChains[reason], text.Clean(reason), last)
		}
		if r.Unlogged > 0 {
			fmt.Fprintf(&b, "  ring %d: %d writes had no place in the dirty log\n", r.Index, r.Unlogged)
		}
	}
	if b.Len() == 0 {
		return nil
	}
	_, err := io.WriteString(w, "\n"+b.String())
	return err
}
