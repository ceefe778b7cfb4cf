package blkbench

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/backend"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/histogram"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/text"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// Report is what happened in a run. Its JSON is for programs.
type Report struct {
	Peer     string         `json:"peer"` // "pid 123 uid 0"
	Features []string       `json:"features"`
	Disk     uint64         `json:"disk_bytes"`
	Block    uint64         `json:"block_bytes"`
	Queues   int            `json:"queues"`
	Depth    int            `json:"depth"`
	Seconds  float64        `json:"seconds"`
	Read     Amount         `json:"read"`
	Written  Amount         `json:"written"`
	Flushes  uint64         `json:"flushes"`
	Failed   uint64         `json:"failed"`
	FirstErr string         `json:"first_error,omitempty"`
	Verified *Verified      `json:"verified,omitempty"`
	Losses   uint64         `json:"losses"` // times that the back-end went away
	Memory   backend.Memory `json:"memory"`
	// Mallocs counts the allocations of the whole program while requests were made.
	Mallocs uint64 `json:"mallocs"`

	readTimes, writeTimes histogram.Histogram
}

// Amount is requests of one kind that were done.
type Amount struct {
	Requests uint64             `json:"requests"`
	PerS     float64            `json:"per_second"`
	BytesPS  float64            `json:"bytes_per_second"`
	Latency  *histogram.Summary `json:"latency,omitempty"`
}

// Verified is what was found in blocks that had been written before.
type Verified struct {
	Blocks uint64 `json:"blocks"` // times that one was looked at
	Wrong  uint64 `json:"wrong"`
	First  *int64 `json:"first_wrong,omitempty"` // byte of the disk
}

// Bad says whether contents were wrong, or requests failed.
func (r *Report) Bad() bool { return r.Failed > 0 || r.Verified != nil && r.Verified.Wrong > 0 }

// report sums up.
func (r *run) report(workers []*worker, mallocs uint64) *Report {
	p := &Report{
		Peer: r.disk.front.Info().Peer, Features: r.disk.Features().Names(virtio.Block),
		Disk: r.disk.Config().Capacity * vblk.SectorSize, Block: r.c.Block, Queues: r.c.Queues, Depth: r.c.Depth,
		Losses: r.disk.Stats().Losses, Memory: backend.MemoryOf(r.disk.front, r.disk.arena), Mallocs: mallocs,
	}
	var took time.Duration
	if r.c.Verify {
		p.Verified = new(Verified)
	}
	for _, w := range workers {
		took = max(took, w.took)
		p.readTimes.Merge(&w.readTimes)
		p.writeTimes.Merge(&w.writeTimes)
		p.Read.Requests += w.read
		p.Written.Requests += w.written
		p.Flushes += w.flushed
		p.Failed += w.failed
		if p.FirstErr == "" && w.firstErr != nil {
			p.FirstErr = w.firstErr.Error()
		}
		if v := p.Verified; v != nil {
			v.Blocks += w.verified
			v.Wrong += w.wrong
			if w.wrong > 0 && v.First == nil {
				v.First = &w.firstWrong
			}
		}
	}
	p.Seconds = took.Seconds()
	p.Read.over(took, r.c.Block, &p.readTimes)
	p.Written.over(took, r.c.Block, &p.writeTimes)
	return p
}

// over fills in rates and times.
func (a *Amount) over(d time.Duration, block uint64, times *histogram.Histogram) {
	if s := d.Seconds(); s > 0 {
		a.PerS = float64(a.Requests) / s
		a.BytesPS = a.PerS * float64(block)
	}
	a.Latency = times.Summary()
}

// Print writes a report for people.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s, %d in flight in each of %d queues, %v with %s: %s\n%v\n\n", text.Size(r.Block), text.Size(r.Disk), r.Depth, r.Queues,
		time.Duration(r.Seconds*1e9).Round(time.Millisecond), text.Clean(r.Peer), strings.Join(r.Features, " "), r.Memory)
	t := text.NewTable("REQUESTS", ">DONE", ">PER S", ">BYTES/S")
	for name, a := range r.kinds() {
		t.Row(name, a.Requests, text.Count(a.PerS), text.Size(uint64(a.BytesPS)))
	}
	if r.Flushes > 0 {
		t.Row("flush", r.Flushes, "", "")
	}
	if err := t.Write(&b, ""); err != nil {
		return err
	}
	if r.Failed > 0 {
		fmt.Fprintf(&b, "\n%d failed, the first because %s\n", r.Failed, text.Clean(r.FirstErr))
	}
	if r.Losses > 0 {
		fmt.Fprintf(&b, "\nthe back-end was lost %d times\n", r.Losses)
	}
	if v := r.Verified; v != nil {
		fmt.Fprintf(&b, "\nverified: %d times a block that had been written, %d wrong", v.Blocks, v.Wrong)
		if v.First != nil {
			fmt.Fprintf(&b, ", the first at byte %d", *v.First)
		}
		b.WriteString("\n")
	}
	for _, h := range []struct {
		name string
		h    *histogram.Histogram
	}{{"read", &r.readTimes}, {"write", &r.writeTimes}} {
		if h.h.Count() > 0 {
			fmt.Fprintf(&b, "\n%s: ", h.name)
			if err := h.h.Draw(&b); err != nil {
				return err
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// kinds are the requests that there were.
func (r *Report) kinds() func(yield func(string, Amount) bool) {
	return func(yield func(string, Amount) bool) {
		if r.Read.Requests > 0 && !yield("read", r.Read) {
			return
		}
		if r.Written.Requests > 0 {
			yield("write", r.Written)
		}
	}
}
