package dma_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/dma"
	"github.com/vhostd/vhostd/memtable"
)

// mapped maps pages of which each was written to.
func mapped(t *testing.T, pages int) *memtable.Mapping {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, pages*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	for i := range pages {
		mem[i*os.Getpagesize()] = 1
	}
	m := memtable.Wrap(mem, memtable.FileID{}, 0, nil)
	t.Cleanup(func() { _ = errors.Join(m.Close(), unix.Munmap(mem)) })
	return m
}

func pagemap(t *testing.T) *dma.Pagemap {
	t.Helper()
	p, err := dma.OpenPagemap()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestRealPagesHavePhysicalAddressesOfTheirOwn(t *testing.T) {
	const pages = 64
	p := pagemap(t)
	m := mapped(t, pages)
	if _, _, err := p.Resolve(m.VA(), 1); errors.Is(err, dma.ErrHidden) {
		t.Skip(err)
	}
	page := uint64(os.Getpagesize())
	seen := make(map[memtable.PA]uint64)
	for off := uint64(0); off < m.Size(); {
		pa, n, err := p.Resolve(m.VA().Add(off), m.Size()-off)
		if err != nil || n == 0 || n%page != 0 || uint64(pa)%page != 0 {
			t.Fatalf("offset %d: 0x%x for %d bytes, %v", off, uint64(pa), n, err)
		}
		for end := off + n; off < end; off, pa = off+page, pa+memtable.PA(page) {
			if other, twice := seen[pa]; twice {
				t.Errorf("the pages at offsets %d and %d are both at 0x%x", off, other, uint64(pa))
			}
			seen[pa] = off
			if one, n, err := p.Resolve(m.VA().Add(off+5), 3); err != nil || one != pa+5 || n != 3 {
				t.Errorf("offset %d: 0x%x for %d bytes, %v; in a range it was 0x%x", off+5, uint64(one), n, err, uint64(pa+5))
			}
		}
	}
}

func TestAPageThatWasNeverTouchedIsNotPresent(t *testing.T) {
	p := pagemap(t)
	m := mapped(t, 1)
	if err := unix.Madvise(m.Bytes(), unix.MADV_REMOVE); err != nil {
		t.Skip("the page cannot be dropped:", err)
	}
	_, _, err := p.Resolve(m.VA(), 1)
	if missing, ok := errors.AsType[*dma.NotPresentError](err); !ok || missing.VA != m.VA() || missing.Swapped {
		t.Errorf("resolving a page that is not there: %v", err)
	}
}

const childVar = "DMA_TEST_CHILD"

// TestNobodySeesPhysicalAddresses runs itself again as a user without rights.
func TestNobodySeesPhysicalAddresses(t *testing.T) {
	if os.Getenv(childVar) != "" {
		withoutRights(t)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("only root can drop its rights")
	}
	dir, err := os.MkdirTemp("", "dma") // the binary lies where only its owner may go
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "dma.test")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, binary, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-test.run", "^TestNobodySeesPhysicalAddresses$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), childVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func withoutRights(t *testing.T) {
	if p, err := dma.OpenPagemap(); err == nil { // as kernels from 4.2 on do
		_, _, err = p.Resolve(mapped(t, 1).VA(), 1)
		if !errors.Is(err, dma.ErrHidden) || p.Close() != nil {
			t.Errorf("resolving: %v", err)
		}
	} else if !errors.Is(err, dma.ErrHidden) {
		t.Errorf("opening: %v", err)
	}
	mode, reason, err := dma.DetectMode(dma.WishAuto, dma.Machine{})
	if err != nil || mode != memtable.IOVAAsVA || !strings.Contains(reason, "CAP_SYS_ADMIN") {
		t.Errorf("mode %v: %s, %v", mode, reason, err)
	}
	if _, _, err := dma.DetectMode(dma.WishPA, dma.Machine{}); !errors.Is(err, dma.ErrHidden) {
		t.Errorf("wishing for physical addresses: %v", err)
	}
}
