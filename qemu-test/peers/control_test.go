package peers

import (
	"fmt"
	"path/filepath"
	"testing"
)

// The control of the experiment: DPDK's own back-end in vhostd's place. If this
// fails, so do all others, and vhostd is not to blame.
func TestTheRoadItselfLosesNothing(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.sock"), filepath.Join(dir, "b.sock")
	r := road{queues: 2, ring: 256, options: ",mrg_rxbuf=1,in_order=0", largest: 1514, split: true, before: func() {}}
	backend := StartTestpmd(t, Config{
		Devices: []string{
			fmt.Sprintf("net_vhost0,iface=%s,queues=%d", a, r.queues),
			fmt.Sprintf("net_vhost1,iface=%s,queues=%d", b, r.queues),
		},
		Queues: r.queues, Ring: r.ring, Mode: "io",
	})
	backend.Command("start")
	r.deliver(t, a, b)
}
