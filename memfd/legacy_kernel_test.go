package memfd

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// legacyFrames are where the pages of the file of a legacy arena lie in physical
// memory. In order: three pages, two, two and one.
var legacyFrames = []uint64{5, 4, 9, 0, 1, 10, 2, 20}

const (
	legacyPage  = 64 << 10
	legacyFirst = memtable.PA(1 << 40)
)

// pretended is a kernel that has huge pages, which are ordinary ones.
type pretended struct {
	*saboteur
	free   int // pages that it says are free
	really int // pages that there are
}

func pretend() *pretended { return &pretended{new(saboteur), len(legacyFrames), len(legacyFrames)} }

func (p *pretended) create(name string, flags int) (int, error) {
	return p.saboteur.create(name, flags&0xff&^unix.MFD_HUGETLB)
}

func (p *pretended) seal(fd, _ int) error { return p.saboteur.seal(fd, unix.F_SEAL_SEAL) }

func (p *pretended) allocate(fd int, off, n int64, on where) error {
	if off+n > int64(p.really)*legacyPage {
		_ = p.linux.allocate(fd, off, max(int64(p.really)*legacyPage-off, legacyPage), on)
		return unix.ENOSPC
	}
	return p.saboteur.allocate(fd, off, n, on)
}

func (p *pretended) list(path string) ([]string, error) {
	if path == hugeDir {
		return []string{"hugepages-64kB"}, nil
	}
	return p.saboteur.list(path)
}

func (p *pretended) read(path string) ([]byte, error) {
	if strings.HasSuffix(path, "/free_hugepages") {
		return fmt.Append(nil, p.free), nil
	}
	return p.saboteur.read(path)
}

// mapped resolves addresses by what page of a file is mapped there.
type mapped struct{}

func (mapped) Resolve(v memtable.VA, n uint64) (memtable.PA, uint64, error) {
	text, err := linux{}.read("/proc/self/maps")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		var from, to, off uint64
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s %x", &from, &to, &rights, &off); err != nil {
			return 0, 0, err
		}
		if at := numberOf(v); from <= at && at < to && rights == "rw-s" {
			off += at - from
			return legacyFirst + memtable.PA(legacyFrames[off/legacyPage]*legacyPage+off%legacyPage), min(n, legacyPage), nil
		}
	}
	return 0, 0, errors.New("not mapped")
}

func legacyOptions() Options {
	return Options{Name: "legacy", Legacy: true, Linger: -1, IOVA: IOVAAsPA, Resolver: mapped{}}
}
