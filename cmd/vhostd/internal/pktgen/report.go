package pktgen

import (
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/backend"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/histogram"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// Report is what happened in a run. Its JSON is for programs.
type Report struct {
	Mode     Mode               `json:"mode"`
	Peer     string             `json:"peer"` // "pid 123 uid 0"
	Features []string           `json:"features"`
	Seconds  float64            `json:"seconds"`
	Sent     Amount             `json:"sent"`
	Received Amount             `json:"received"`
	Queues   vnet.DriverStats   `json:"queues"`
	Checked  *Checked           `json:"checked,omitempty"`
	Latency  *histogram.Summary `json:"latency,omitempty"`
	Memory   backend.Memory     `json:"memory"`
	// Mallocs counts the allocations of the whole program while frames moved.
	Mallocs uint64 `json:"mallocs"`

	times histogram.Histogram
}

// Amount is frames in one direction.
type Amount struct {
	Frames     uint64  `json:"frames"`
	Bytes      uint64  `json:"bytes"` // without FCS
	FramesPerS float64 `json:"frames_per_second"`
	BitsPerS   float64 `json:"bits_per_second"`
}

// Checked is what is known of the frames that were received.
type Checked struct {
	Unique    uint64 `json:"unique"`
	Lost      uint64 `json:"lost"`
	Duplicate uint64 `json:"duplicate"`
	Reordered uint64 `json:"reordered"`
	Damaged   uint64 `json:"damaged"`
	Foreign   uint64 `json:"foreign"` // not ours: not counted in the others
}

// Wrong says whether frames are missing, double or damaged.
func (c *Checked) Wrong() bool { return c != nil && c.Lost+c.Duplicate+c.Damaged > 0 }

// report sums up.
func (r *run) report(w crew, took time.Duration, mallocs uint64) *Report {
	i := r.p.front.Info()
	p := &Report{
		Mode: r.c.Mode, Peer: i.Peer, Features: r.p.Features().Names(virtio.Net), Seconds: took.Seconds(),
		Queues: r.p.Stats(), Memory: backend.MemoryOf(r.p.front, r.p.arena), Mallocs: mallocs,
	}
	for _, q := range p.Queues.Tx {
		p.Sent.Frames += q.Frames - uint64(q.Lent) // those the device has not taken were not sent
		p.Sent.Bytes += q.Bytes
	}
	for _, q := range p.Queues.Rx {
		p.Received.Frames += q.Frames
		p.Received.Bytes += q.Bytes
	}
	p.Sent.over(took)
	p.Received.over(w.receiving(took))
	for _, x := range w.receivers {
		p.times.Merge(&x.times)
	}
	p.Latency = p.times.Summary()
	if r.c.receives() && (r.c.Check || r.c.Mode == RTT) {
		t := &r.track
		p.Checked = &Checked{t.unique, t.lost, t.duplicate, t.reordered, t.damaged, t.foreign}
		if r.c.sends() {
			// The last ones of a flow leave no gap.
			p.Checked.Lost = p.Sent.Frames - min(t.unique+t.damaged, p.Sent.Frames)
		}
	}
	return p
}

// over fills in the rates.
func (a *Amount) over(d time.Duration) {
	if s := d.Seconds(); s > 0 {
		a.FramesPerS, a.BitsPerS = float64(a.Frames)/s, float64(a.Bytes)*8/s
	}
}

// receiving is the time from the first burst received to the last, which may be
// far less than the run took.
func (w *crew) receiving(took time.Duration) time.Duration {
	first, last := int64(1<<63-1), int64(0)
	for _, x := range w.receivers {
		if x.first != 0 {
			first, last = min(first, x.first), max(last, x.last)
		}
	}
	for _, x := range w.reflectors {
		if x.first != 0 {
			first, last = min(first, x.first), max(last, x.last)
		}
	}
	if last <= first {
		return took
	}
	return time.Duration(last - first)
}
