package peers

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/vhostd/vhostd/virtio"
)

// Two drivers through one bridge of Open vSwitch, which dials both.
func TestTwoDriversThroughABridgeOfOpenVSwitch(t *testing.T) {
	o := StartOVS(t)
	dir := shortDir(t)
	fronts := make([]*Front, 2)
	for i, name := range []string{"a", "b"} {
		socket := filepath.Join(dir, name+".sock")
		o.AddPort(name, socket)
		fronts[i] = StartFront(t, FrontConfig{MAC: byte(i + 1), Listen: socket, Pairs: 1, Size: 256})
		f := fronts[i]
		f.Check("+version_1", "+mrg_rxbuf", "+indirect_desc")
		want := fmt.Sprintf("0x%016x", uint64(f.Features()|virtio.FeatureProtocol))
		o.await("port "+name+" to be connected", func() bool { return o.Status(name, "status") == "connected" })
		if got := o.Status(name, "features"); got != want {
			t.Errorf("port %s: Open vSwitch has features %s, the driver %s", name, got, want)
		}
	}
	a, b := fronts[0], fronts[1]
	// Each is heard of once before it is sent to, or its frames go everywhere.
	streams(t, a, b, 32)
	streams(t, b, a, 32)
	streams(t, a, b, 50_000)
	streams(t, b, a, 50_000)
}

// The same with the daemon, and 1 and 4 pairs.
func TestTwoDriversThroughTheDaemon(t *testing.T) {
	for _, pairs := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d pairs", pairs), func(t *testing.T) {
			r := road{queues: pairs}
			v, pa, pb := r.vhostd(t)
			a := StartFront(t, FrontConfig{MAC: 1, Dial: pa, Pairs: pairs, Size: 256})
			b := StartFront(t, FrontConfig{MAC: 2, Dial: pb, Pairs: pairs, Size: 256})
			r.awaitRunning(v)
			for _, port := range []string{"a", "b"} {
				CheckFeatures(t, v.Queues(port).Features.Names, "+version_1", "+mrg_rxbuf", "+event_idx", "+indirect_desc")
			}
			if !a.Link.Info().Share.Slots {
				t.Error("memory slots were not agreed on")
			}
			streams(t, a, b, 32)
			streams(t, b, a, 32)
			streams(t, a, b, 50_000)
			streams(t, b, a, 50_000)
			for _, port := range []string{"a", "b"} {
				if drops := v.Stats(port).Drops; len(drops) > 0 {
					t.Errorf("port %s dropped %v", port, drops)
				}
			}
		})
	}
}
