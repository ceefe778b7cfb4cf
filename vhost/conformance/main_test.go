package conformance

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write docs/conformance.md anew")

// TestMain holds the whole suite to one more rule: when all front-ends have
// gone, no goroutine and no file is left of them.
func TestMain(m *testing.M) {
	flag.Parse()
	wakePoller()
	before := openFiles()
	code := m.Run()
	if code == 0 {
		code = left(before)
	}
	os.Exit(code)
}

// wakePoller has the runtime open the files of its poller, which stay.
func wakePoller() {
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	r.Close()
	w.Close()
}

// openFiles counts the files this process has open.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1 // no /proc: every count is the same
	}
	return len(entries)
}

// left is the exit code for what the tests left behind.
func left(before int) int {
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		return 1
	}
	for end := time.Now().Add(*patience); openFiles() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			fmt.Fprintf(os.Stderr, "%d files were open before the tests, %d are now\n", before, openFiles())
			return 1
		}
	}
	return 0
}
