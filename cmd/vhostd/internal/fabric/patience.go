package fabric

import (
	"runtime"
	"time"

	"github.com/vhostd/vhostd/virtio"
)

// How long a turn may wait for others, in all: some 5 ms, within its section,
// so that is how much later control's waits can end. Who holds a gate is in the
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
type patience struct{ yields, gate, buffers int }

func (p *patience) reset() { *p = patience{gateYields, gateNaps, bufferNaps} }

// enter opens a stay at the receive queue, or says why it cannot.
func (f *fill) enter() (why Reason, ok bool) {
	for {
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
		switch p := &f.w.pause; {
		case p.yields > 0:
			p.yields--
			runtime.Gosched()
		case p.gate > 0:
			p.gate--
			time.Sleep(gateNap)
		default:
			return Crowded, false
		}
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
	if f.w.pause.buffers == 0 || f.rx.empty.Load() {
		f.rx.setEmpty(true)
		return NoBuffers, false
	}
	f.w.pause.buffers--
	f.leave()
	time.Sleep(bufferNap)
	return f.enter()
}

// setEmpty notes whether waiting for buffers was in vain, where that is news.
func (r *receiver) setEmpty(empty bool) {
	if r.empty.Load() != empty {
		r.empty.Store(empty)
	}
}
