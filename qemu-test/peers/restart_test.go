package peers

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// A back-end is killed under traffic and started again, many times. Each time
// traffic goes on by itself, through the driver that was there before; and in the
// end every buffer is back (Front.Close counts them).
func TestADriverOutlivesBackEndsThatAreKilled(t *testing.T) {
	t.Run("testpmd", func(t *testing.T) {
		socket := filepath.Join(shortDir(t), "a.sock")
		p := startNetVhost(t, "iface="+socket, 1)
		f := StartFront(t, FrontConfig{MAC: 1, Pairs: 1, Size: 256, Dial: socket})
		outlive(t, f, f, times(t, killsVar, 10), func() {
			p.Kill()
			os.Remove(socket) // DPDK does not listen where a file is
			p = startNetVhost(t, "iface="+socket, 1)
		})
	})
	t.Run("testpmd that dials, and cannot go on", func(t *testing.T) {
		socket := filepath.Join(shortDir(t), "a.sock")
		p := startNetVhost(t, "client=1,iface="+socket, 1)
		f := StartFront(t, FrontConfig{MAC: 1, Pairs: 1, Size: 256, Listen: socket, Without: virtio.FeatureInOrder})
		outlive(t, f, f, times(t, killsVar, 3), func() {
			p.Kill()
			p = startNetVhost(t, "client=1,iface="+socket, 1)
		})
	})
	t.Run("the daemon", func(t *testing.T) {
		r := road{queues: 1}
		v, pa, pb := r.vhostd(t)
		a := StartFront(t, FrontConfig{MAC: 1, Dial: pa, Pairs: 1, Size: 256})
		b := StartFront(t, FrontConfig{MAC: 2, Dial: pb, Pairs: 1, Size: 256})
		outlive(t, a, b, times(t, killsVar, 10), func() {
			v.Kill()
			v = r.vhostdAt(t, pa, pb)
		})
	})
}

// outlive has traffic from a to b while the back-end between them is replaced.
func outlive(t *testing.T, a, b *Front, kills int, replace func()) {
	t.Helper()
	const some = 2000
	s := &Stream{From: a, To: b, Window: 128, Lossy: true}
	var longest atomic.Int64
	_, took := under(t, s, func() {
		for i := range kills {
			seen := s.Received.Load()
			await(t, "traffic", func() bool { return s.Received.Load() > seen+some })
			replace()
			back := time.Now()
			seen = s.Received.Load()
			await(t, "traffic through the next back-end", func() bool { return s.Received.Load() > seen+some })
			longest.Store(max(longest.Load(), int64(time.Since(back))))
			for _, f := range []*Front{a, b} {
				if n := f.Changes(vnet.DeviceLost); n != i+1 {
					t.Errorf("kill %d: the driver noticed %d", i+1, n)
				}
				if n := f.Changes(vnet.DeviceBack); n != i+1 {
					t.Errorf("kill %d: the driver was told of %d new back-ends", i+1, n)
				}
			}
			if t.Failed() {
				return
			}
		}
	})
	// It is as good as new: nothing is missing any more.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s.Lossy = false
	if err := s.Run(ctx, s.Sent.Load()+some); err != nil {
		t.Error(err)
	}
	tx, rx := a.Stats().Tx[0], b.Stats().Rx[0]
	t.Logf("%d kills in %v; %d frames sent, %d received, %d lost, %d twice; buffers reclaimed unsent: %d; received and not fetched: %d; "+
		"%d frames flow at most %v after a new back-end was started", kills, took.Round(time.Millisecond),
		s.Sent.Load(), s.Received.Load(), s.Lost.Load(), s.Again.Load(), tx.Lost, rx.Lost, some, time.Duration(longest.Load()).Round(time.Millisecond))
	if s.Lost.Load() > uint64(kills*2*s.Window) {
		t.Errorf("%d frames are lost over %d kills, with %d on their way at most", s.Lost.Load(), kills, s.Window)
	}
}
