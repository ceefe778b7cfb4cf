package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/pktgen"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memfd/memflag"
)

// pktgenCommand moves frames through a back-end.
type pktgenCommand struct {
	reach

	Mode     pktgen.Mode   `default:"tx" placeholder:"tx|rx|txrx|reflect|rtt" help:"Send, receive, both at once, send back what comes, or send and measure how long it takes to come back."`
	Size     pktgen.Sizes  `default:"60" placeholder:"BYTES[:TIMES],…|imix" help:"Sizes of frames sent, without FCS."`
	Flows    int           `default:"1" help:"Flows in each queue: they differ in their UDP ports."`
	Burst    int           `default:"32" help:"Frames handled at once, at most."`
	Pairs    int           `default:"1" help:"Queue pairs; each queue that is used has a worker."`
	Ring     int           `default:"256" help:"Descriptors of each queue."`
	Rate     float64       `placeholder:"FRAMES/S" help:"All queues together. Default: as fast as they go, and 1000 to measure how long they take."`
	Count    uint64        `placeholder:"FRAMES" help:"End after so many, of all queues together."`
	Duration time.Duration `help:"End after this time. Default: at a signal."`
	Drain    time.Duration `default:"1s" help:"How long to wait at the end for frames on their way."`
	Check    bool          `help:"Check number, order and contents of the frames received. The exit code is 1 if some are missing, double or damaged."`
	Poll     bool          `help:"Never park: a processor for each worker."`
	Dst      pktgen.MAC    `placeholder:"MAC" help:"Where frames are sent. Default: an address that nobody has."`
	Src      pktgen.MAC    `placeholder:"MAC" help:"Our address. Default: the back-end's choice, or by chance."`
	MTU      int           `name:"mtu" placeholder:"BYTES" help:"Default: what the sizes need."`
	Buffer   int           `placeholder:"BYTES" help:"Of each buffer. Default: 2048, or what the sizes need."`
	Without  []string      `placeholder:"FEATURE,…" help:"Features to do without: mrg_rxbuf, in_order, event_idx …"`
	JSON     bool          `name:"json" help:"Exact numbers, for programs."`

	memflag.Flags `embed:"" group:"Memory:"`
}

// errFrames is why a run that went well is a failure all the same.
var errFrames = errors.New("frames are missing, double or damaged")

// Run moves frames and prints what came of it.
func (p *pktgenCommand) Run(ctx context.Context, o *output) (err error) {
	mem, err := p.Flags.Options()
	if err != nil {
		return err
	}
	if p.Inspect != "" {
		i, err := memfd.ServeInspect(p.Inspect)
		if err != nil {
			return err
		}
		defer i.Close()
	}
	c := pktgen.Config{
		Address: p.Address(), Mode: p.Mode, Sizes: p.Size, Flows: p.Flows, Burst: p.Burst,
		Pairs: p.Pairs, Ring: p.Ring, Rate: p.Rate, Count: p.Count, Duration: p.Duration, Drain: p.Drain, Check: p.Check,
		Poll: p.Poll, Dst: p.Dst, Src: p.Src, MTU: p.MTU, Buffer: p.Buffer, Without: p.Without, Memory: mem,
	}
	if c.Mode == pktgen.RTT && c.Rate == 0 {
		c.Rate = 1000
	}
	live := liveLine(o.err)
	r, err := pktgen.Run(ctx, c, live)
	if live != nil {
		fmt.Fprint(o.err, "\r\x1b[K") // what is printed takes its place
	}
	if r == nil {
		return err
	}
	if p.JSON {
		e := json.NewEncoder(o.out)
		e.SetIndent("", "  ")
		err = errors.Join(err, e.Encode(r))
	} else {
		err = errors.Join(err, r.Print(o.out))
	}
	if err == nil && p.Check && r.Checked.Wrong() {
		return errFrames
	}
	return err
}

// liveLine writes one line that always tells the last second, if w is a terminal;
// nil: it is none.
func liveLine(w io.Writer) func(pktgen.Progress) {
	if !terminal(w) {
		return nil
	}
	return func(p pktgen.Progress) {
		state := ""
		if !p.Connected {
			state = "  no back-end"
		}
		fmt.Fprintf(w, "\r%v  sent %d (%s/s, %sbit/s)  received %d (%s/s, %sbit/s)%s\x1b[K", p.Elapsed.Round(time.Second),
			p.Sent, text.Count(p.SentPS), text.Count(p.BitsOut), p.Received, text.Count(p.RecvPS), text.Count(p.BitsIn), state)
	}
}

// terminal says whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
