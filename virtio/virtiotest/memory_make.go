package virtiotest

import (
	"slices"
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
func (m *Memory) inFile(tb testing.TB, areas []Area) (mappings []*memtable.Mapping, views [][]byte) {
	tb.Helper()
	fd, err := unix.MemfdCreate("virtiotest", unix.MFD_CLOEXEC)
	if err != nil {
		tb.Skipf("no memfd for guest memory: %v", err)
	}
	m.fd = fd
	tb.Cleanup(func() { unix.Close(fd) })
	var total int64
	for _, a := range areas {
		total += int64(a.Size)
	}
	if err := unix.Ftruncate(fd, total); err != nil {
		tb.Fatalf("guest memory of %d bytes: %v", total, err)
	}
	for _, mapping := range m.mapFile(tb, areas) {
		view, err := unix.Mmap(fd, mapping.Offset(), int(mapping.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			tb.Fatalf("guest memory, the driver's mapping: %v", err)
		}
		tb.Cleanup(func() { unix.Munmap(view) })
		mappings, views = append(mappings, mapping), append(views, view)
	}
	return mappings, views
}

// mapFile maps all areas once, for the device.
func (m *Memory) mapFile(tb testing.TB, areas []Area) (mappings []*memtable.Mapping) {
	tb.Helper()
	var end int64
	for _, a := range slices.Backward(areas) {
		mapping, err := memtable.MapFile(m.fd, end, a.Size, memtable.MapOptions{})
		if err != nil {
			tb.Fatalf("guest memory, the device's mapping: %v", err)
		}
		tb.Cleanup(func() { mapping.Close() })
		end += int64(a.Size)
		mappings = append(mappings, mapping)
	}
	slices.Reverse(mappings)
	return mappings
}

// tableOf makes a device's table of mappings, one for each area.
func tableOf(tb testing.TB, areas []Area, mappings []*memtable.Mapping) *memtable.Table[memtable.GPA] {
	tb.Helper()
	var list []memtable.Region[memtable.GPA]
	for i, a := range areas {
		list = append(list, memtable.Region[memtable.GPA]{Addr: a.Addr, Size: a.Size, Mem: mappings[i]})
	}
	table, err := memtable.New(list, memtable.Options{})
	if err != nil {
		tb.Fatalf("guest memory: %v", err)
	}
	return table
}

// Remap maps a memory that is in a file once more, elsewhere, and makes the new
// table the device's: what a front-end does that sends SET_MEM_TABLE again. The
// caller closes the mappings of the old table when nobody uses them.
func (m *Memory) Remap(tb testing.TB) (old *memtable.Table[memtable.GPA]) {
	tb.Helper()
	var areas []Area
	for _, r := range m.regions {
		areas = append(areas, r.Area)
	}
	old, m.table = m.table, tableOf(tb, areas, m.mapFile(tb, areas))
	return old
}
