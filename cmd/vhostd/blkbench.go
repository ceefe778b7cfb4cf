package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/blkbench"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memfd/memflag"
)

// blkbenchCommand reads and writes a disk.
type blkbenchCommand struct {
	reach

	Block      memflag.Size  `default:"4K" help:"Size of each request."`
	Depth      int           `default:"32" help:"Requests in flight in each queue."`
	Queues     int           `default:"1" help:"Request queues, each with a worker and a part of the disk of its own."`
	Ring       int           `default:"128" help:"Descriptors of each queue."`
	Sequential bool          `help:"One block after the other. Default: anywhere."`
	Reads      int           `default:"100" placeholder:"PERCENT" help:"The other requests write. Default: all read, or half of them where they are verified."`
	Flush      int           `placeholder:"WRITES" help:"Flush after so many, in each queue. Default: never."`
	Region     memflag.Size  `placeholder:"SIZE" help:"Use the disk up to there. Default: all of it."`
	Write      bool          `help:"Allow that the disk is written over."`
	Verify     bool          `help:"Write patterns, read them back, and exit with code 1 if one is wrong."`
	Count      uint64        `placeholder:"REQUESTS" help:"End after so many, of all queues together."`
	Duration   time.Duration `help:"End after this time. Default: at a signal."`
	Late       time.Duration `default:"10s" help:"How long to wait at the end for requests in flight."`
	Poll       bool          `help:"Never park: a processor for each worker."`
	JSON       bool          `name:"json" help:"Exact numbers, for programs."`

	memflag.Flags `embed:"" group:"Memory:"`
}

// errBlocks is why a run that went well is a failure all the same.
var errBlocks = errors.New("requests failed, or blocks are not as they were written")

// Run makes requests and prints what came of it.
func (p *blkbenchCommand) Run(ctx context.Context, o *output) (err error) {
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
	var live func(time.Duration, uint64)
	if terminal(o.err) {
		live = liveRequests(o.err)

	}
	r, err := blkbench.Run(ctx, blkbench.Config{
		Address: p.Address(), Block: uint64(p.Block), Depth: p.Depth, Queues: p.Queues, Ring: p.Ring, Sequential: p.Sequential,
		Reads: p.Reads, Flush: p.Flush, Size: uint64(p.Region), Write: p.Write, Verify: p.Verify, Count: p.Count,
		Duration: p.Duration, Late: p.Late, Poll: p.Poll, Memory: mem,
	}, live)
	if r == nil {
		return err
	}
	if live != nil {
		fmt.Fprint(o.err, "\r\x1b[K") // what is printed takes its place
	}
	if p.JSON {
		e := json.NewEncoder(o.out)
		e.SetIndent("", "  ")
		err = errors.Join(err, e.Encode(r))
	} else {
		err = errors.Join(err, r.Print(o.out))
	}
	if err == nil && r.Bad() {
		return errBlocks
	}
	return err
}

// liveRequests writes one line that always tells the last second.
func liveRequests(w io.Writer) func(time.Duration, uint64) {
	var before uint64
	var last time.Duration
	return func(elapsed time.Duration, done uint64) {
		rate := float64(done-before) / max(elapsed-last, time.Millisecond).Seconds()
		fmt.Fprintf(w, "\r%v  %d requests (%s/s)\x1b[K", elapsed.Round(time.Second), done, text.Count(rate))
		before, last = done, elapsed
	}
}
