package memfd

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"testing"
)

// withMinimum is an arena that holds memory of its own.
func withMinimum(t *testing.T) *Arena {
	t.Helper()
	o := small()
	o.Name = "closing" // whose files are to be none at the end
	o.Minimum = map[int]uint64{AnyNode: 64 << 10}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestClosingWhileAMirrorHoldsExternalMemoryIsRefusedAndCanBeTriedAgain(t *testing.T) {
	a := withMinimum(t)
	w, _ := followed(t, a)
	mem, f := filed(t, 16<<10)
	register(t, a, "x", ExternalOptions{Mem: mem, File: f, Shared: true})
	w.holdOn.Store(true)
	if err := a.Close(); !errors.Is(err, ErrBusy) {
		t.Errorf("closing: %v", err)
	}
	if n := len(a.Extents()); n != 5 {
		t.Errorf("%d extents are left, of four of the minimum and an external one", n)
	}
	w.holdOn.Store(false)
	if err := a.Close(); err != nil {
		t.Error("closing again:", err)
	}
	if files := memfds(t, a.o.Name); len(files) > 0 {
		t.Errorf("files that stay: %q", files)
	}
	if maps, err := os.ReadFile("/proc/self/maps"); err != nil || bytes.Contains(maps, []byte("/memfd:"+a.o.Name+"-")) {
		t.Errorf("mappings stay: %v\n%s", err, maps)
	}
}

func TestAnArenaMayBeClosedBySeveral(t *testing.T) {
	for range 50 {
		a := withMinimum(t)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if err := a.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	if files := memfds(t, "closing"); len(files) > 0 {
		t.Errorf("files that stay: %q", files)
	}
}
