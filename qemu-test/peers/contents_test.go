package peers

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// road is two pcap ports and what lies between them: frames read from a file
// go out of virtio_user port A, through the switch, into port B and into a file.
type road struct {
	queues, ring int
	options      string // of both virtio_user ports
	server       bool   // testpmd listens, vhostd dials
	split        bool   // A and B in two processes, each with its own memory
	huge         bool
	largest      int    // frame; testpmd's buffers hold 2048 bytes
	before       func() // is called when the ports are up, before frames are sent
}

// deliver sends frames both ways at once and compares what came out.
func (r road) deliver(t *testing.T, socketA, socketB string) {
	t.Helper()
	dir := shortDir(t)
	// Few enough that a receiver that has posted its ring never lacks buffers:
	// then not one frame may be lost, whoever is slow.
	perQueue := r.ring / 4
	sentA := r.write(t, dir, "a", Flow{Src: MAC(1), Dst: MAC(2), Port: 1000}, perQueue)
	sentB := r.write(t, dir, "b", Flow{Src: MAC(2), Dst: MAC(1), Port: 2000}, perQueue)

	devices := []string{r.pcap(dir, 0, "a"), r.virtio(0, socketA), r.virtio(1, socketB), r.pcap(dir, 1, "b")}
	config := Config{Devices: devices, Queues: r.queues, Ring: r.ring, Huge: r.huge, Mode: "io"}
	if r.split {
		config.Devices = devices[:2]
		a := StartTestpmd(t, config)
		config.Devices = []string{devices[3], devices[2]}
		b := StartTestpmd(t, config)
		r.before()
		a.Forward()
		b.Forward()
		awaitTransmitted(t, a, 0, len(sentB))
		awaitTransmitted(t, b, 0, len(sentA))
		a.Quit()
		b.Quit()
	} else {
		p := StartTestpmd(t, config)
		r.before()
		p.Forward()
		awaitTransmitted(t, p, 0, len(sentB))
		awaitTransmitted(t, p, 3, len(sentA))
		p.Quit()
	}
	compareFlows(t, "A to B", sentA, r.read(t, dir, "b"))
	compareFlows(t, "B to A", sentB, r.read(t, dir, "a"))
}

// write makes the files that one side sends, a flow for each queue.
func (r road) write(t *testing.T, dir, side string, f Flow, n int) (all [][]byte) {
	for q := range r.queues {
		frames := Frames(t, Flow{f.Src, f.Dst, f.Port + uint16(q)}, n, r.largest)
		WritePcap(t, filepath.Join(dir, fmt.Sprintf("%s-in-%d.pcap", side, q)), frames)
		all = append(all, frames...)
	}
	return all
}

// read collects what came out at one side.
func (r road) read(t *testing.T, dir, side string) (all [][]byte) {
	for q := range r.queues {
		all = append(all, ReadPcap(t, filepath.Join(dir, fmt.Sprintf("%s-out-%d.pcap", side, q)))...)
	}
	return all
}

func (r road) pcap(dir string, port int, side string) string {
	s := fmt.Sprintf("net_pcap%d", port)
	for q := range r.queues {
		base := filepath.Join(dir, side)
		s += fmt.Sprintf(",rx_pcap=%s-in-%d.pcap,tx_pcap=%s-out-%d.pcap", base, q, base, q)
	}
	return s
}

func (r road) virtio(port int, socket string) string {
	s := fmt.Sprintf("net_virtio_user%d,path=%s,queues=%d,queue_size=%d%s", port, socket, r.queues, r.ring, r.options)
	if r.server {
		s += ",server=1"
	}
	return s
}

func awaitTransmitted(t *testing.T, p *Testpmd, port, want int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		s := p.Stats(port)
		if s.TxPackets >= uint64(want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("port %d wrote %d of %d frames; ports:\n%s", port, s.TxPackets, want, p.Command("show port stats all"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// compareFlows compares flow by flow: order is kept within one, not between them.
func compareFlows(t *testing.T, way string, sent, got [][]byte) {
	t.Helper()
	want, have := byFlow(sent), byFlow(got)
	for flow, frames := range want {
		for i, frame := range frames {
			if i >= len(have[flow]) {
				t.Errorf("%s: flow %d: %d frames of %d arrived", way, flow, len(have[flow]), len(frames))
				break
			}
			if diff := cmp.Diff(frame, have[flow][i]); diff != "" {
				t.Fatalf("%s: flow %d, frame %d of %d bytes differs (-sent +got):\n%s", way, flow, i, len(frame), diff)
			}
		}
		if extra := len(have[flow]) - len(frames); extra > 0 {
			t.Errorf("%s: flow %d: %d frames more than were sent", way, flow, extra)
		}
		delete(have, flow)
	}
	for flow, frames := range have {
		t.Errorf("%s: %d frames of flow %d, which nobody sent this way", way, len(frames), flow)
	}
}

func byFlow(frames [][]byte) map[uint16][][]byte {
	flows := map[uint16][][]byte{}
	for _, f := range frames {
		flows[FlowOf(f)] = append(flows[FlowOf(f)], f)
	}
	return flows
}
