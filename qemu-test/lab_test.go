package qemutest

import (
	"context"
	"flag"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// scenarioTime bounds a scenario with all its boots.
const scenarioTime = 6 * time.Minute

// newLab makes a lab that ends with the test, or skips the test where guests
// cannot be booted. When the test has failed, consoles and logs are kept.
func newLab(t *testing.T) (*Lab, context.Context) {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("boots guests, which takes longer than -short allows")
	case runtime.GOARCH != "amd64":
		t.Skip("the guests are amd64, and need a host of their kind")
	}
	if _, err := InstalledQEMU(); err != nil {
		lacks(t, err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), scenarioTime, context.DeadlineExceeded)
	t.Cleanup(cancel)
	if _, err := FetchKernel(ctx); err != nil {
		lacks(t, err)
	}
	l, err := NewLab(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			keep(t, l)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, ctx
}

// lacks skips a test that misses something of the machine, or fails it where
// VHOSTD_GUESTS=required says that nothing may be missing.
func lacks(t *testing.T, what error) {
	t.Helper()
	if os.Getenv("VHOSTD_GUESTS") == "required" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// keep puts them where go test -artifacts wants them, or below build/artifacts.
func keep(t *testing.T, l *Lab) {
	var (
		to  string
		err error
	)
	if f := flag.Lookup("test.artifacts"); f != nil && f.Value.String() == "true" {
		to = t.ArtifactDir()
		err = l.Keep(to)
	} else {
		to, err = l.KeepIn(strings.ReplaceAll(t.Name(), "/", "_"))
	}
	if err != nil {
		t.Error(err)
		return
	}
	t.Logf("consoles and logs are in %s", to)
}

// newest is the QEMU most scenarios run on.
func newest(ctx context.Context, t *testing.T) *QEMU {
	t.Helper()
	q, err := NewestQEMU(ctx)
	if err != nil {
		lacks(t, err)
	}
	return q
}

// boot boots a guest, and fails the test if it does not come up.
func boot(ctx context.Context, t *testing.T, l *Lab, g Guest) *Machine {
	t.Helper()
	start := time.Now()
	m, err := l.Boot(ctx, g)
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Logf("%s: %v, Linux %s, %.1f s to boot", g.Name, g.QEMU, m.Hello.Kernel, time.Since(start).Seconds())
	return m
}
