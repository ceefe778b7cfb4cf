package peers

import (
	"fmt"
	"testing"
	"time"
)

// flood starts a testpmd that sends small frames into a socket as fast as it can.
func flood(t *testing.T, socket string, r road) *Testpmd {
	t.Helper()
	p := StartTestpmd(t, Config{Devices: []string{r.virtio(0, socket)}, Queues: r.queues, Ring: r.ring, Mode: "txonly"})
	p.Forward()
	return p
}

// enough frames to wrap the 16-bit indices of a ring several times.
const enough = 200_000

// At full speed frames may be lost, for the receiver may be slower; but each one
// is either delivered or counted with a reason, and all three counts agree: the
// sender's, the switch's, the receiver's.
func TestEveryFrameIsDeliveredOrCounted(t *testing.T) {
	for _, options := range []string{",mrg_rxbuf=1,in_order=0", ",mrg_rxbuf=0,in_order=1"} {
		t.Run(options[1:], func(t *testing.T) {
			r := road{queues: 1, ring: 256, options: options}
			v, a, b := r.vhostd(t)
			to := StartTestpmd(t, Config{Devices: []string{r.virtio(0, b)}, Queues: 1, Ring: r.ring, Mode: "rxonly"})
			to.Forward()
			v.Await("the receiver's rings", func() bool { return v.Running("b", 2) })
			from := flood(t, a, r)
			v.Await("a load of frames", func() bool { return v.Stats("a").InFrames > enough })
			from.Command("stop")
			sent := from.Stats(0).TxPackets
			v.Await(fmt.Sprint("the last of ", sent, " frames"), func() bool { return v.Stats("a").InFrames == sent })

			out := v.Stats("b").OutFrames
			v.Await(fmt.Sprint("all of ", out, " frames to be received"), func() bool { return to.Stats(0).RxPackets == out })
			lost := uint64(0)
			for _, port := range []string{"a", "b"} {
				for _, n := range v.Stats(port).Drops {
					lost += n
				}
				for _, ring := range v.Queues(port).Rings {
					if len(ring.BadChains) > 0 || ring.Broken != "" {
						t.Errorf("port %s, %s: bad chains %v, broken %q", port, ring.Name, ring.BadChains, ring.Broken)
					}
				}
			}
			if out+lost != sent {
				t.Errorf("of %d frames %d were delivered and %d counted as lost: %d are unaccounted for", sent, out, lost, int64(sent-out-lost))
			}
			if out == 0 {
				t.Error("not one frame was delivered")
			}
		})
	}
}

// A front-end that is killed in the middle of its traffic leaves a port that the
// next one can use as if nothing had been.
func TestAPortOutlivesAFrontEndThatCrashes(t *testing.T) {
	r := road{queues: 1, ring: 256, options: ",mrg_rxbuf=1,in_order=0", largest: 1514}
	v, a, b := r.vhostd(t)
	crashing := flood(t, a, r)
	v.Await("traffic", func() bool { return v.Stats("a").InFrames > enough })
	crashing.Kill()
	v.Await("the loss to be seen", func() bool { return v.Queues("a").State != "running" })
	r.before = func() { r.awaitRunning(v) }
	r.deliver(t, a, b)
	if q := v.Port("a"); q.Connects != 2 {
		t.Errorf("port a counts %d connections, want 2", q.Connects)
	}
}

// A daemon that is killed is replaced by one that dials the same front-ends,
// which listen: they go on where they were.
func TestANewDaemonTakesOverFromOneThatWasKilled(t *testing.T) {
	r := road{queues: 1, ring: 256, options: ",mrg_rxbuf=1,in_order=0", largest: 1514, server: true}
	v, a, b := r.vhostd(t)
	r.before = func() {
		r.awaitRunning(v)
		v.Kill()
		v = r.vhostdAt(t, a, b)
		r.awaitRunning(v)
	}
	r.deliver(t, a, b)
}

// While its rings are running and nothing is sent the daemon sleeps.
func TestAnIdleDaemonUsesNoTime(t *testing.T) {
	r := road{queues: 4, ring: 256, options: ",mrg_rxbuf=1,in_order=0"}
	v, a, b := r.vhostd(t)
	p := StartTestpmd(t, Config{Devices: []string{r.virtio(0, a), r.virtio(1, b)}, Queues: r.queues, Ring: r.ring, Mode: "io"})
	r.awaitRunning(v)
	p.Command("show port stats all") // it has nothing more to set up

	const ticks = 100 // of a second: USER_HZ, the same on all machines
	before, window := v.CPUTicks(), 2
	time.Sleep(time.Duration(window) * time.Second)
	if used := v.CPUTicks() - before; used > window*ticks/20 {
		t.Errorf("used %d ticks in %d s of nothing to do, want at most one in twenty", used, window)
	}
}
