package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/pktgen"
)

// A line that changes is for those who see it change.
func TestTheLiveLineIsForTerminalsOnly(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if liveLine(new(bytes.Buffer)) != nil || liveLine(file) != nil || terminal(nil) {
		t.Error("a file, or a buffer, is taken for a terminal")
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals:", err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skip("no pseudo-terminals:", err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skip("no pseudo-terminals:", err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals:", err)
	}
	defer slave.Close()
	live := liveLine(slave)
	if live == nil {
		t.Fatal("a terminal is not taken for one")
	}
	live(pktgen.Progress{Elapsed: 2 * time.Second, Sent: 1234567, SentPS: 1.5e6, Received: 7, Connected: false})
	line := make([]byte, 1024)
	n, err := master.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"\r2s", "sent 1234567 (1.50M/s", "received 7", "no back-end", "\x1b[K"} {
		if !strings.Contains(string(line[:n]), part) {
			t.Errorf("%q is not in %q", part, line[:n])
		}
	}
}
