package qemutest

import (
	"testing"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

// streamSize is what TCP subtests send each way, in bytes: enough for rings to
// wrap many times and windows to grow, at a speed of 20 MB/s.
const streamSize = 16 << 20

func TestTwoGuestsExchangeTraffic(t *testing.T) {
	l, ctx := newLab(t)
	q := newest(ctx, t)
	off := guestapi.Offloads{"tx": false, "sg": false, "gso": false, "tso": false, "gro": false}
	p := bootPair(ctx, t, l, Guest{QEMU: q}, Guest{QEMU: q},
		link{name: "plain", mtu: 1500, offloads: off},
		link{name: "offload", mtu: 1500},
		link{name: "jumbo", mtu: 9000, forA: "mtu=9000", forB: "mtu=9000", a: "host_mtu=9000", b: "host_mtu=9000"},
	)
	t.Run("ping", func(t *testing.T) {
		p.pings(ctx, t, "plain", 50, 56)
		p.pings(ctx, t, "offload", 20, 1400)
	})
	t.Run("fragments", func(t *testing.T) { p.pings(ctx, t, "plain", 10, 20_000) })
	t.Run("jumbo", func(t *testing.T) {
		p.pings(ctx, t, "jumbo", 20, 8900)
		p.streams(ctx, t, p.sideB("jumbo").v4, streamSize)
	})
	t.Run("TCP without offloads", func(t *testing.T) {
		p.streams(ctx, t, p.sideB("plain").v4, streamSize/2)
		p.streams(ctx, t, p.sideB("plain").v6, streamSize/4)
	})
	t.Run("TCP with segmentation", func(t *testing.T) {
		before := p.stats(ctx, t, "offload-a")
		p.streams(ctx, t, p.sideB("offload").v4, streamSize)
		p.streams(ctx, t, p.sideB("offload").v6, streamSize/2)
		after := p.stats(ctx, t, "offload-a")
		frames, bytes := after.InFrames-before.InFrames, after.InBytes-before.InBytes
		// Half of the frames are acknowledgements: without segmentation by the
		// receiver the mean could not pass one segment.
		if mean := bytes / max(frames, 1); mean < 1514 {
			t.Errorf("a frame has %d bytes in the mean: nothing was left to segment", mean)
		}
	})
	t.Run("UDP", func(t *testing.T) {
		for _, size := range []int{8, 1472, 4000} {
			if err := p.a.UDP(ctx, p.b, p.sideB("offload").v4, 300, size); err != nil {
				t.Error(err)
			}
			if err := p.b.UDP(ctx, p.a, p.sideA("plain").v6, 300, size); err != nil {
				t.Error(err)
			}
		}
	})
	p.healthy(ctx, t)
}
