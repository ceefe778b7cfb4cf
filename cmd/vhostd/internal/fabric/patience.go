package fabric

import (
	"runtime"
	"time"

	"github.com/vhostd/vhostd/virtio"
)

// How long a turn may wait for others, in all. Who holds a gate is in the
// middle of one burst's copies, unless the kernel took its core away. A guest
// that ran out of buffers is given a few moments, but not while it is known to
// have given none the last time.
const (
	gateYields = 64
	gateNaps   = 100
	gateNap    = 50 * time.Microsecond
	bufferNaps = 4
	bufferNap  = 50 * time.Microsecond
)

// patience is what is left of a turn's waiting.
type patience struct{ gate, buffers int }

func (p *patience) reset() { *p = patience{gateNaps, bufferNaps} }

// enter opens a stay at the receive queue, or says why it cannot.
func (f *fill) enter() (why Reason, ok bool) {
	for yields := 0; ; yields++ {
		switch f.rx.Begin(f.w.reader) {
		case virtio.Open:
			f.inside = true
			if !f.rx.View().Enabled {
				return PortDown, false
			}
			return 0, true
		case virtio.Stopped:
			return PortDown, false
		}
		if yields < gateYields {
			runtime.Gosched()
			continue
		}
		if f.w.pause.gate--; f.w.pause.gate < 0 {
			return Crowded, false
		}
		time.Sleep(gateNap)
	}
}

// leave ends the stay, if there is one. It touches no guest memory. A ring that
// broke meanwhile has no worker of its own to say so; the section we are in
// keeps the session from starting it anew before it hears of it.
func (f *fill) leave() {
	if !f.inside {
		return
	}
	f.inside = false
	err := f.rx.Err()
	f.rx.End()
	if err != nil {
		f.to.session.Break(f.rx.Index(), err)
	}
}

// wait leaves the receive queue for a moment, so that the guest can post
// buffers and others can have their turn. False: it must not be waited for any
// longer.
func (f *fill) wait() (why Reason, ok bool) {
	if f.w.pause.buffers--; f.w.pause.buffers < 0 || f.to.empty.Load() {
		f.to.empty.Store(true)
		return NoBuffers, false
	}
	f.leave()
	time.Sleep(bufferNap)
	return f.enter()
}
