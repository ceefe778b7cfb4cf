package peers

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// QEMU's block back-end keeps what blkbench writes, which runs without any rights;
// and without --write nothing is written.
func TestBlkbenchRunsAsNobodyAgainstQEMUsDisk(t *testing.T) {
	const size = 16 << 20
	image, was := newImage(t, size)
	s := startStorage(t, image, "writable=on,num-queues=2")
	public(t, s.socket)
	runner := nobody(t)
	run := func(args ...string) (r struct {
		Read, Written struct{ Requests uint64 }
		Failed        uint64
		Verified      struct{ Blocks, Wrong uint64 }
		Flushes       uint64
		Mallocs       uint64
	}, said string, err error) {
		cmd := exec.CommandContext(t.Context(), runner, append([]string{vhostd(t), "blkbench", s.socket, "--json", "--no-huge"}, args...)...)
		var b strings.Builder
		cmd.Stderr = &b
		out, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(out, &r)
		}
		return r, b.String(), err
	}
	if r, said, err := run("--count", "20000"); err != nil || r.Read.Requests != 20000 || r.Mallocs > 100 {
		t.Errorf("reading: %v %s: %+v", err, said, r)
	}
	if _, said, err := run("--count", "100", "--reads", "50"); err == nil || !strings.Contains(said, "say --write") {
		t.Errorf("writing without --write: %v %s", err, said)
	}
	if b, err := os.ReadFile(image); err != nil || !bytes.Equal(b, was) {
		t.Fatalf("the image was written to, or %v", err)
	}
	r, said, err := run("--count", "5000", "--write", "--verify", "--queues", "2", "--flush", "500", "--region", "8M")
	if err != nil || r.Failed != 0 || r.Verified.Blocks == 0 || r.Verified.Wrong != 0 || r.Flushes == 0 {
		t.Errorf("verifying: %v %s: %+v", err, said, r)
	}
	b, err := os.ReadFile(image)
	if err != nil || bytes.Equal(b[:8<<20], was[:8<<20]) || !bytes.Equal(b[8<<20:], was[8<<20:]) {
		t.Errorf("the image's first half was not written, or its second was: %v", err)
	}
}
