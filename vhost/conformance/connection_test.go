package conformance

import (
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vhostd/vhostd/vhost"
)

// mapped counts the mappings of guest memory in this process, ours included.
func mapped(t testing.TB) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip("needs /proc: ", err)
	}
	return strings.Count(string(maps), "memfd:conformance")
}

// regions are those of the session that began last.
func regions(f *front) []vhost.RegionInfo {
	f.t.Helper()
	return f.session().Info().Memory.Regions
}

// Rule 15 (vhost-user, Communication): When the connection ends, wherever in a
// message, all rings stop and files and mappings are given back. The back-end
// lives and accepts the next one.
func TestEndOfConnectionGivesEverythingBack(t *testing.T) {
	d := entropy()
	b := listen(t, d)
	for _, rest := range []string{"", "\x02\x00\x00\x00\x01", string(packet(vhost.SetFeatures, version, make([]byte, 8))[:14])} {
		f := b.dial()
		f.agree(options{})
		f.share()
		rings := []*ring{f.ring(0), f.ring(1)}
		files, maps := openFiles(), mapped(t)
		for _, r := range rings {
			r.start()
			r.works()
		}
		if len(rest) > 0 {
			f.drip([]byte(rest))
		}
		d.said()
		f.Close()
		b.end()
		// The region's mapping went, and both ends of the socket.
		eventually(t, "files and mappings are given back", func() bool { return openFiles() == files-2 && mapped(t) == maps-1 })
		if s := strings.Join(d.said(), ", "); !strings.Contains(s, "ring 0 stopped") || !strings.Contains(s, "ring 1 stopped") {
			t.Errorf("the device heard: %s", s)
		}
	}
	b.dial().alive()
}

// countLines counts what is logged.
type countLines struct{ n atomic.Int64 }

func (c *countLines) Write(p []byte) (int, error) { c.n.Add(1); return len(p), nil }

// Rule 16 (QEMU 7.2): A front-end whose start fails connects again at once,
// thousands of times a second. Nothing grows by it, the log least of all.
func TestConnectStormLeavesNothingBehind(t *testing.T) {
	storm := 1500
	if testing.Short() {
		storm = 300
	}
	b := prepare(t, network())
	var lines countLines
	b.server.Log = slog.New(slog.NewTextHandler(&lines, nil))
	b.serve()
	files := openFiles()
	for range storm {
		f := b.dial()
		f.alive()
		f.Close()
	}
	eventually(t, "all files are closed", func() bool { return openFiles() == files })
	if n := lines.n.Load(); n > 100 {
		t.Errorf("%d lines were logged of %d connections", n, storm)
	}
	f := b.dial()
	f.agree(options{})
	f.share()
	r := f.ring(0)
	r.start()
	r.works()
}

// Rule 17 (QEMU): A second connection is never left without an answer, for
// QEMU's main loop waits for it, and never are both answered: the newer one
// takes the place of the older as soon as it speaks.
func TestNewerConnectionTakesThePlace(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.start()
	silent := f.b.dial()
	r.works()
	f.alive()
	silent.alive()
	if err := f.closed(); err == nil {
		t.Error("the older session ended as if its peer had left")
	}
	used := r.used()
	r.post()
	silent.agree(options{})
	silent.share()
	s := silent.ring(0)
	s.start()
	s.works()
	if r.used() != used {
		t.Error("the older connection's ring is still served")
	}
}
