package pktgen

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// few is how many frames are enough where nothing but their contents matters. At
// this rate hardly a machine drops one; those that are dropped are counted.
const (
	few  = 20_000
	slow = 40_000
)

func TestWhatIsSentArrivesThroughASwitch(t *testing.T) {
	for _, c := range []struct {
		name  string
		adapt func(*Config)
	}{
		{"short frames", func(*Config) {}},
		{"imix in flows", func(c *Config) { c.Sizes, c.Flows = slices.Repeat(Sizes{60, 590, 1514}, 3), 7 }},
		{"two pairs", func(c *Config) { c.Pairs, c.Flows = 2, 5 }},
		{"frames over several buffers", func(c *Config) { c.Sizes, c.MTU = Sizes{9000}, 9000 }},
		{"not merged", func(c *Config) { c.Without = []string{"mrg_rxbuf"} }},
		{"bursts of one in short rings", func(c *Config) { c.Burst, c.Ring = 1, 16 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, out := Config{}, Config{}
			c.adapt(&in)
			h := newHall(t, max(in.Pairs, 1))
			in, out = h.config(0, Tx), h.config(1, Rx)
			c.adapt(&in)
			c.adapt(&out)
			in.Count, in.Rate, out.Check = few, slow, true
			if out.MTU > 1500 {
				out.Buffer = 2048 // and so five of them
			}
			stop, received := h.start(out)
			h.awaitPort(1)
			_, sent := h.start(in)
			s := sent()
			dropped := h.settled(few)
			stop()
			r := received()
			sound(t, r)
			if s.Sent.Frames != few || r.Received.Frames != few-dropped || r.Checked.Lost > dropped {
				t.Errorf("sent %+v, %d dropped, received %+v, %+v", s.Sent, dropped, r.Received, *r.Checked)
			}
			if dropped == 0 && r.Received.Bytes != s.Sent.Bytes {
				t.Errorf("%d bytes sent, %d received", s.Sent.Bytes, r.Received.Bytes)
			}
			if r.Memory.Waste != 0 || r.Memory.Used == 0 || r.Memory.Shared != r.Memory.Used {
				t.Errorf("shared %+v", r.Memory)
			}
		})
	}
}

// What is reflected comes back whole, and how long that took is measured.
func TestWhatIsReflectedComesBack(t *testing.T) {
	for _, poll := range []bool{false, true} {
		t.Run(fmt.Sprintf("poll=%v", poll), func(t *testing.T) {
			h := newHall(t, 1)
			mirror, ask := h.config(1, Reflect), h.config(0, RTT)
			ask.Count, ask.Rate, ask.Check = 3000, 3000, true
			mirror.Poll, ask.Poll = poll, poll
			stop, reflected := h.start(mirror)
			h.awaitPort(1)
			_, asked := h.start(ask)
			r := asked()
			stop()
			m := reflected()
			sound(t, r)
			dropped := h.dropped()
			if r.Received.Frames != 3000-dropped || r.Checked.Lost != dropped || m.Received.Frames != m.Sent.Frames || m.Sent.Frames < 3000-dropped {
				t.Errorf("%d dropped; asked: %+v, reflected %+v and %+v", dropped, *r.Checked, m.Received, m.Sent)
			}
			if l := r.Latency; l == nil || l.Count != r.Received.Frames || l.Min <= 0 || l.Max > time.Minute {
				t.Errorf("latency %+v", l)
			}
			if r.Seconds < 0.99 {
				t.Errorf("3000 frames at 3000/s took %v s", r.Seconds)
			}
		})
	}
}

// A worker allocates nothing for a frame, nor for a wait.
func TestFramesDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector the runtime allocates by itself")
	}
	frames := uint64(1_000_000)
	if testing.Short() {
		frames /= 10
	}
	h := newHall(t, 1)
	in, out := h.config(0, TxRx), h.config(1, Reflect)
	in.Count = frames
	stop, reflected := h.start(out)
	h.awaitPort(1)
	_, sent := h.start(in)
	s := sent()
	stop()
	m := reflected()
	t.Logf("%d sent, %d reflected, %d came back; %d allocations", s.Sent.Frames, m.Received.Frames, s.Received.Frames, s.Mallocs)
	// All of this process is counted: both runs, and the switch between them.
	if s.Sent.Frames != frames || m.Received.Frames == 0 || s.Mallocs > 100 {
		t.Errorf("%d frames, of which %d were reflected, made %d allocations", s.Sent.Frames, m.Received.Frames, s.Mallocs)
	}
}

// A back-end that goes and comes back costs what was on its way, no more.
func TestARunOutlivesItsBackEnd(t *testing.T) {
	h := newHall(t, 1)
	c := h.config(0, Tx)
	c.Count, c.Rate = few, slow
	_, ended := h.start(c)
	for range 3 {
		h.awaitFrames()
		h.end[0]()
		h.serve(0)
	}
	r := ended()
	if r.Queues.Lost == 0 || r.Sent.Frames < few-1000 {
		t.Errorf("sent %d frames; the back-end was lost %d times", r.Sent.Frames, r.Queues.Lost)
	}
}
