package peers

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// generated is what these tests look at in vhostd pktgen --json.
type generated struct {
	Features []string
	Sent     struct{ Frames uint64 }
	Received struct{ Frames uint64 }
	Checked  *struct{ Unique, Lost, Duplicate, Damaged uint64 }
	Latency  *struct {
		Count uint64
		P50   uint64 `json:"p50_ns"`
	}
	Memory struct {
		Pages               []uint64
		Regions             int
		Used, Shared, Waste uint64
	}
	Mallocs uint64
}

// nobody builds the program that runs others without rights.
func nobody(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nobody")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/vhostd/vhostd/tools/nobody").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// public lets anybody connect to a socket, which takes the right to write.
func public(t *testing.T, path string) {
	t.Helper()
	for _, f := range []string{filepath.Dir(path), path} {
		if err := os.Chmod(f, 0o777); err != nil {
			t.Fatal(err)
		}
	}
}

// generate runs vhostd pktgen, as user 65534 without capabilities.
func generate(t *testing.T, nobody string, args ...string) (g generated) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), nobody, append([]string{vhostd(t), "pktgen", "--json"}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("pktgen %v: %v: %s", args, err, &said)
	}
	if err := json.Unmarshal(out, &g); err != nil {
		t.Fatalf("pktgen: %v in %q", err, out)
	}
	return g
}

// DPDK's back-end sends back what pktgen sends, which runs without any rights, on
// small pages and on huge ones: a million frames, for which it allocates nothing.
func TestPktgenRunsAsNobodyAgainstDPDK(t *testing.T) {
	runner := nobody(t)
	for _, c := range []struct {
		name string
		page uint64
	}{{"4K", 4 << 10}, {"2M", 2 << 20}} {
		t.Run(c.name, func(t *testing.T) {
			if c.page > 4<<10 {
				if err := ReserveHugepages(t, 16); err != nil {
					t.Skip("no hugepages:", err)
				}
			}
			path := filepath.Join(shortDir(t), "s")
			p := StartTestpmd(t, Config{Devices: []string{fmt.Sprintf("net_vhost0,iface=%s", path)}, Queues: 1, Ring: 256, Mode: "io"})
			public(t, path)
			p.Forward()
			at := []string{path, "--page-sizes", c.name}
			g := generate(t, runner, append(at, "--mode", "txrx", "--count", "1000000", "--size", "imix", "--flows", "4")...)
			if g.Sent.Frames != 1_000_000 || g.Received.Frames == 0 || g.Mallocs > 100 {
				t.Errorf("sent %d, received %d, %d allocations", g.Sent.Frames, g.Received.Frames, g.Mallocs)
			}
			if m := g.Memory; !slices.Equal(m.Pages, []uint64{c.page}) || m.Used == 0 || m.Used+m.Waste != m.Shared || m.Regions < 1 || m.Regions > 8 {
				t.Errorf("shared %+v", m)
			}
			t.Logf("%d of %d came back, %d allocations, %d bytes in %d regions, %d waste", g.Received.Frames, g.Sent.Frames, g.Mallocs, g.Memory.Shared, g.Memory.Regions, g.Memory.Waste)
			g = generate(t, runner, append(at, "--mode", "rtt", "--count", "2000", "--rate", "2000", "--check")...)
			if c := g.Checked; c == nil || c.Unique != 2000 || c.Lost+c.Duplicate+c.Damaged != 0 || g.Latency == nil || g.Latency.Count != 2000 {
				t.Errorf("%+v, latency %+v", c, g.Latency)
			}
			if !slices.Contains(g.Features, "mrg_rxbuf") {
				t.Errorf("agreed on %v", g.Features)
			}
		})
	}
}
