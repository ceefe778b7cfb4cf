package peers

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// probed is what these tests look at in vhostd probe --json.
type probed struct {
	Device   string
	Queues   uint64
	Slots    *uint64                  `json:"mem_slots"`
	Protocol struct{ Names []string } `json:"protocol_features"`
	Config   []struct{ Name, Value string }
	Messages []struct{ Request, Answer string }
	Unusual  []struct{ What string }
}

// probe asks the back-end at path.
func probe(t *testing.T, path string, flags ...string) (p probed) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), vhostd(t), append([]string{"probe", "--json", path}, flags...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("probe: %v: %s", err, &said)
	}
	if err := json.Unmarshal(out, &p); err != nil {
		t.Fatalf("probe: %v in %s", err, out)
	}
	for _, m := range p.Messages {
		if !slices.Contains([]string{"replied", "acknowledged", "taken"}, m.Answer) {
			t.Errorf("%s: %s", m.Request, m.Answer)
		}
	}
	return p
}

// finds checks that a finding begins so.
func (p *probed) finds(t *testing.T, begin string) {
	t.Helper()
	for _, u := range p.Unusual {
		if strings.HasPrefix(u.What, begin) {
			return
		}
	}
	t.Errorf("nothing unusual is %q: %v", begin, p.Unusual)
}

// DPDK's back-end, where it listens and where it dials; it goes on afterwards.
func TestAProbeReadsDPDK(t *testing.T) {
	for _, client := range []bool{false, true} {
		t.Run(fmt.Sprintf("client=%v", client), func(t *testing.T) {
			path := filepath.Join(shortDir(t), "s")
			device, flags := fmt.Sprintf("net_vhost0,iface=%s,queues=2", path), []string(nil)
			if client {
				device, flags = device+",client=1", []string{"--listen"}
			}
			p := StartTestpmd(t, Config{Devices: []string{device}, Queues: 2, Ring: 256, Mode: "rxonly"})
			got := probe(t, path, flags...)
			if got.Device != "net" || got.Slots != nil || !slices.Contains(got.Protocol.Names, "REPLY_ACK") {
				t.Errorf("it says %+v", got)
			}
			got.finds(t, "features of the control queue are offered")
			p.Forward()
			p.Quit()
		})
	}
}

// QEMU's block back-end, and again: what a probe did is gone with its connection.
func TestAProbeReadsQEMUsDisk(t *testing.T) {
	image, _ := newImage(t, 1<<20)
	s := startStorage(t, image, "writable=on,num-queues=2")
	for range 2 {
		got := probe(t, s.socket)
		if got.Device != "blk" || got.Queues != 2 || len(got.Config) == 0 || got.Config[0].Value != "2048 sectors (1048576 bytes)" {
			t.Errorf("it says %+v", got)
		}
		got.finds(t, "GET_CONFIG answers for another offset")
		got.finds(t, "INFLIGHT_SHMFD is not offered")
	}
}
