package virtiotest

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// onHeap backs each area with memory of its own.
func onHeap(tb testing.TB, areas []Area) (mappings []*memtable.Mapping, views [][]byte) {
	for i, a := range areas {
		mem := heapBytes(a.Size)
		mapping := memtable.Wrap(mem, memtable.FileID{Ino: uint64(i) + 1}, 0, nil)
		tb.Cleanup(func() { mapping.Close() })
		mappings = append(mappings, mapping)
		views = append(views, mem)
	}
	return mappings, views
}

// inFile backs all areas with one memfd, which each side maps. The file holds
// them in reverse order: what touches in the guest does not in the file.
func inFile(tb testing.TB, areas []Area) (mappings []*memtable.Mapping, views [][]byte) {
	tb.Helper()
	fd, err := unix.MemfdCreate("virtiotest", unix.MFD_CLOEXEC)
	if err != nil {
		tb.Skipf("no memfd for guest memory: %v", err)
	}
	defer unix.Close(fd)
	var total int64
	for _, a := range areas {
		total += int64(a.Size)
	}
	if err := unix.Ftruncate(fd, total); err != nil {
		tb.Fatalf("guest memory of %d bytes: %v", total, err)
	}
	for _, a := range areas {
		total -= int64(a.Size)
		mapping, err := memtable.MapFile(fd, total, a.Size, memtable.MapOptions{})
		if err != nil {
			tb.Fatalf("guest memory, the device's mapping: %v", err)
		}
		tb.Cleanup(func() { mapping.Close() })
		view, err := unix.Mmap(fd, total, int(a.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			tb.Fatalf("guest memory, the driver's mapping: %v", err)
		}
		tb.Cleanup(func() { unix.Munmap(view) })
		mappings, views = append(mappings, mapping), append(views, view)
	}
	return mappings, views
}
