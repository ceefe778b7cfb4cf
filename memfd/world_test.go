package memfd

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// small are options for an arena of system pages that costs little.
func small() Options {
	return Options{Name: "test", NoHuge: true, Extent: 16 << 10, Space: 1 << 20, Linger: -1}
}

// opened makes an arena on k that is closed with the test, which fails if it
// cannot be.
func opened(t testing.TB, k kernel, o Options) *Arena {
	t.Helper()
	a, err := newArena(k, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error("closing the arena:", err)
		}
	})
	return a
}

// take grows a, and gives the memory back with the test.
func take(t testing.TB, a *Arena, g growth) *block {
	t.Helper()
	b, err := a.grow(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// back releases all of b.
func giveBack(t testing.TB, a *Arena, b *block) {
	t.Helper()
	if err := a.release(t.Context(), b.VA, b.Size); err != nil {
		t.Error("release:", err)
	}
}

// world is what the arena has of the process and the machine: what must be as
// it was after something failed.
type world struct {
	Layout string
	Files  []string // name and pages of each memfd that is open
	Maps   []string // of the reservations: ranges, rights, offsets
	Table  string
	Known  []string // by mirror
}

// look takes a picture of the world.
func look(t testing.TB, a *Arena, mirrors ...*witness) world {
	t.Helper()
	w := world{Layout: fmt.Sprintf("%+v", a.withoutFiles()), Files: memfds(t, a.o.Name)}
	for _, c := range a.classes {
		w.Maps = append(w.Maps, mapsOf(t, c)...)
	}
	for _, r := range a.ByIOVA(nil).Regions() {
		w.Table += fmt.Sprintf("%x+%x at %x;", uint64(r.Addr), r.Size, numberOf(r.Mem.VA().Add(r.Skip)))
	}
	for _, m := range mirrors {
		w.Known = append(w.Known, m.String())
	}
	return w
}

// withoutFiles is the layout without the numbers of files, which are new each
// time one is made.
func (a *Arena) withoutFiles() Layout {
	l := a.Layout()
	for i := range l.Classes {
		l.Classes[i].File.Dev, l.Classes[i].File.Ino = 0, 0
	}
	return l
}

// memfds gives the open files of a name, and how much memory each has.
func memfds(t testing.TB, name string) (files []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		target, err := os.Readlink(fd)
		if err != nil || !strings.HasPrefix(target, "/memfd:"+name+"-") {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(fd, &st); err != nil {
			t.Fatal(err)
		}
		files = append(files, fmt.Sprintf("%s %d blocks", target, st.Blocks))
	}
	slices.Sort(files)
	return files
}

// mapsOf gives what /proc/self/maps has for the reservation of c, cut to it.
// What is behind a mapping of a file is told by its offset.
func mapsOf(t testing.TB, c *class) (lines []string) {
	t.Helper()
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	next := c.first
	for s := bufio.NewScanner(f); s.Scan(); {
		var from, to, off uint64
		var rights string
		if _, err := fmt.Sscanf(s.Text(), "%x-%x %s %x", &from, &to, &rights, &off); err != nil {
			t.Fatal(err)
		}
		end := c.first + uint64(len(c.mem))
		if to <= c.first || from >= end {
			continue
		}
		from, to = max(from, c.first), min(to, end)
		if from != next {
			lines = append(lines, fmt.Sprintf("HOLE %x-%x", next-c.first, from-c.first))
		}
		next = to
		if rights == "---p" {
			off = 0
			// The kernel may keep neighbours apart that are alike.
			if n := len(lines); n > 0 && strings.HasSuffix(lines[n-1], fmt.Sprintf("-%x ---p 0", from-c.first)) {
				begin, _, _ := strings.Cut(lines[n-1], "-")
				lines[n-1] = fmt.Sprintf("%s-%x ---p 0", begin, to-c.first)
				continue
			}
		}
		lines = append(lines, fmt.Sprintf("%x-%x %s %x", from-c.first, to-c.first, rights, off))
	}
	if next != c.first+uint64(len(c.mem)) {
		lines = append(lines, fmt.Sprintf("HOLE from %x on", next-c.first))
	}
	return lines
}
