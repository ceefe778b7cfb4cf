package pktgen

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// Print writes a report for people.
func (p *Report) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, pairs: %d, %v with %s: %s\n", p.Mode, p.Queues.Pairs,
		time.Duration(p.Seconds*1e9).Round(time.Millisecond), text.Clean(p.Peer), strings.Join(p.Features, " "))
	fmt.Fprintln(&b, p.Memory)
	if p.Queues.Lost+p.Queues.Restarts > 0 {
		fmt.Fprintf(&b, "the back-end was lost %d times, and reset %d times\n", p.Queues.Lost, p.Queues.Restarts)
	}
	b.WriteString("\n")
	if err := p.frames().Write(&b, ""); err != nil {
		return err
	}
	if t := p.trouble(); t.Len() > 0 {
		b.WriteString("\n")
		if err := t.Write(&b, ""); err != nil {
			return err
		}
	}
	if c := p.Checked; c != nil {
		fmt.Fprintf(&b, "\nchecked: %d came once, %d lost, %d duplicate, %d reordered, %d damaged, %d foreign\n",
			c.Unique, c.Lost, c.Duplicate, c.Reordered, c.Damaged, c.Foreign)
	}
	if p.Latency != nil {
		b.WriteString("\nlatency: ")
		if err := p.times.Draw(&b); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// frames is a line for each queue that was used, and one for each direction.
func (p *Report) frames() *text.Table {
	t := text.NewTable("QUEUE", ">FRAMES", ">BYTES", ">FRAMES/S", ">BIT/S")
	for _, d := range []struct {
		name  string
		list  []vnet.QueueStats
		total Amount
	}{{"tx", p.Queues.Tx, p.Sent}, {"rx", p.Queues.Rx, p.Received}} {
		if d.total.Frames == 0 && (d.name == "tx") == (p.Mode == Rx) {
			continue
		}
		if len(d.list) > 1 {
			for i, q := range d.list {
				t.Row(fmt.Sprintf("%s %d", d.name, i), q.Frames, q.Bytes, "", "")
			}
		}
		t.Row(d.name, d.total.Frames, d.total.Bytes, text.Count(d.total.FramesPerS), text.Count(d.total.BitsPerS))
	}
	return t
}

// trouble is a line for each counter that is not zero.
func (p *Report) trouble() *text.Table {
	t := text.NewTable("QUEUE", "WHAT", ">TIMES")
	for _, d := range []struct {
		name string
		list []vnet.QueueStats
	}{{"tx", p.Queues.Tx}, {"rx", p.Queues.Rx}} {
		for i, q := range d.list {
			for _, c := range []struct {
				what string
				n    uint64
			}{
				{"refused", q.Refused}, {"lost with the back-end", q.Lost}, {"copied", q.Copied}, {"bad header", q.Bad},
				{"too long", q.TooLong}, {"filtered", q.Filtered}, {"no buffers", q.NoBuffers}, {"queue restarted", q.Restarts},
			} {
				if c.n > 0 {
					t.Row(fmt.Sprintf("%s %d", d.name, i), c.what, c.n)
				}
			}
			if d.name == "tx" && q.Lent > 0 {
				t.Row(fmt.Sprintf("tx %d", i), "not taken by the back-end", q.Lent)
			}
		}
	}
	return t
}
