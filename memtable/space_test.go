package memtable

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMappingsLeaveTheProcessAddressSpace(t *testing.T) {
	const part = spaceMax / 8
	fd, err := unix.MemfdCreate("giant", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, 4*spaceMax); err != nil {
		t.Skip("no file of that size: ", err)
	}
	before := space.left
	if _, err := MapFile(fd, 0, 4*spaceMax, MapOptions{}); err == nil || !strings.Contains(err.Error(), "address space") {
		t.Fatalf("more than there is was mapped: %v", err)
	}
	var all []*Mapping
	for {
		m, err := MapFile(fd, 0, part, MapOptions{})
		if err != nil {
			break
		}
		if all = append(all, m); len(all) > 8 {
			t.Fatal("there is no end")
		}
	}
	for _, m := range all {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if space.left != before {
		t.Errorf("%d bytes were not given back", before-space.left)
	}
}
