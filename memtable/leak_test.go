package memtable_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/memtable"
)

// held counts the descriptors and the mappings of the test's memfds.
func held(t *testing.T) (fds, maps int) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.Contains(to, memfdName) {
			fds++
		}
	}
	all, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip("no /proc:", err)
	}
	return fds, strings.Count(string(all), memfdName)
}

func TestNothingIsLeftAfterCloseOrFailure(t *testing.T) {
	fd := memfd(t, 1<<20)
	fds, maps := held(t)
	var all []*memtable.Mapping
	for i := range 20 {
		m, err := memtable.MapFile(fd, int64(i*1000), 70_000, memtable.MapOptions{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
		if _, err := memtable.MapFile(fd, 1<<20-1, 2, memtable.MapOptions{}); err == nil {
			t.Fatal("mapped past the end")
		}
	}
	if _, now := held(t); now == maps {
		t.Fatal("the test does not see its mappings")
	}
	for _, m := range all {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Error("second Close:", err)
		}
	}
	if f, m := held(t); f != fds || m != maps {
		t.Errorf("%d descriptors and %d mappings, were %d and %d", f, m, fds, maps)
	}
}

func TestClosingAWrapLeavesTheMemory(t *testing.T) {
	mem := make([]byte, 64)
	m := memtable.Wrap(mem, memtable.FileID{Dev: 1, Ino: 2}, 3, "me")
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	mem[0] = 1
	if m.Bytes()[0] != 1 || m.File() != (memtable.FileID{Dev: 1, Ino: 2}) || m.Offset() != 3 {
		t.Error("the wrap is not what was wrapped")
	}
}

// Faults must find their owner while others map and unmap all the time, often
// at the very same addresses.
func TestFaultsFindTheirOwnerAmongMappingsThatComeAndGo(t *testing.T) {
	var wg sync.WaitGroup
	for worker := range 4 {
		fd := memfd(t, 4096)
		wg.Go(func() {
			for i := range 200 {
				owner := [2]int{worker, i}
				m, err := memtable.MapFile(fd, 0, 4096, memtable.MapOptions{Owner: owner})
				if err != nil {
					t.Error(err)
					return
				}
				checkFault(t, m, vanish(fd, func() { m.Bytes()[100] = 1 }))
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
