package peers

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The control of the experiment: DPDK's own back-end in vhostd's place. If this
// fails, so do all others, and vhostd is not to blame.
func TestTheRoadItselfLosesNothing(t *testing.T) {
	dir := shortDir(t)
	a, b := filepath.Join(dir, "a.sock"), filepath.Join(dir, "b.sock")
	r := road{queues: 2, ring: 256, options: ",mrg_rxbuf=1,in_order=0", largest: 1514, split: true}
	backend := StartTestpmd(t, Config{
		Devices: []string{
			fmt.Sprintf("net_vhost0,iface=%s,queues=%d", a, r.queues),
			fmt.Sprintf("net_vhost1,iface=%s,queues=%d", b, r.queues),
		},
		Queues: r.queues, Ring: r.ring, Mode: "io",
	})
	backend.Forward()
	// It takes frames from a ring before it can put any into the other one.
	r.before = func() {
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			if strings.Count(backend.Command("show port info all"), "Link status: up") == 2 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("DPDK's back-end does not come up:\n" + backend.Output())
			}
		}
	}
	r.deliver(t, a, b)
}
