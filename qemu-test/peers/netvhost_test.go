package peers

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// startNetVhost starts DPDK's own back-end, which sends every frame back through
// the queue pair it came by.
func startNetVhost(t testing.TB, options string, queues int) *Testpmd {
	t.Helper()
	p := StartTestpmd(t, Config{
		Devices: []string{fmt.Sprintf("net_vhost0,queues=%d,%s", queues, options)},
		Queues:  queues, Ring: 256, Mode: "io", Loop: true,
	})
	// What it took from one ring and cannot put into the other at once it tries
	// again, as a switch would drop it.
	p.Command("set fwd io retry")
	p.Command("set burst tx delay 20 retry 1000000")
	p.Forward()
	return p
}

// awaitSaid waits until the process has said something.
func awaitSaid(t testing.TB, p *Testpmd, text string) {
	t.Helper()
	await(t, fmt.Sprintf("testpmd to say %q", text), func() bool { return strings.Contains(p.Output(), text) })
}

// await polls until ok; it fails the test when that takes too long.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// streams runs one stream for each pair, all at once, and checks every frame.
func streams(t *testing.T, from, to *Front, frames uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	var wg sync.WaitGroup
	start := time.Now()
	for i := range from.Pairs() {
		s := &Stream{From: from, To: to, Pair: i, Window: 64}
		wg.Go(func() {
			if err := s.Run(ctx, frames); err != nil {
				t.Errorf("pair %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	all := float64(frames) * float64(from.Pairs())
	t.Logf("%.0f frames, %.0f/s", all, all/time.Since(start).Seconds())
}

// DPDK's back-end with our driver, in every way that the two can agree on: each
// frame comes back as it was sent, in order, and none is missing.
func TestTheDriverAndDPDKsBackEndAgree(t *testing.T) {
	const frames = 30_000
	for _, c := range []struct {
		name     string
		dials    bool // testpmd does
		pairs    int
		without  virtio.Features
		features []string
	}{
		{"testpmd listens", false, 1, 0, []string{"+version_1", "+mrg_rxbuf", "+in_order", "+indirect_desc", "+event_idx"}},
		{"testpmd dials", true, 1, 0, []string{"+version_1", "+mrg_rxbuf"}},
		{"not mergeable", false, 1, vnet.FeatureMrgRxbuf, []string{"-mrg_rxbuf"}},
		{"not in order", false, 1, virtio.FeatureInOrder, []string{"-in_order", "+mrg_rxbuf"}},
		{"nothing but what must be", false, 1, ^virtio.FeatureVersion1, []string{"-in_order", "-mrg_rxbuf", "-event_idx", "-indirect_desc"}},
		{"four pairs", false, 4, 0, []string{"+mq"}},
		{"four pairs, testpmd dials, not mergeable", true, 4, vnet.FeatureMrgRxbuf, []string{"+mq", "-mrg_rxbuf"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket := filepath.Join(shortDir(t), "a.sock")
			config := FrontConfig{MAC: 1, Pairs: c.pairs, Size: 256, Without: c.without, Dial: socket}
			options := "iface=" + socket
			if c.dials {
				config.Dial, config.Listen = "", socket
				options += ",client=1"
			}
			p := startNetVhost(t, options, c.pairs)
			f := StartFront(t, config)
			f.Check(c.features...)
			// The other end means the same by it.
			awaitSaid(t, p, fmt.Sprintf("negotiated Virtio features: %#x", uint64(f.Features()|virtio.FeatureProtocol)))
			streams(t, f, f, frames/uint64(c.pairs))
			if s := f.Link.Info().Share; s.Slots || s.Pauses > 0 || s.Waste() > 0 {
				t.Errorf("memory is shared as %+v", s)
			}
		})
	}
}
