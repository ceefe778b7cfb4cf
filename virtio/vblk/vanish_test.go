package vblk_test

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/virtio/vblk"
)

// Guest memory that its owner cut away is an error of the transfer, in whichever
// piece it lies, and no signal: requests may be done on any thread.
func TestMemoryThatVanishedIsAnErrorOfTheTransfer(t *testing.T) {
	path, _ := image(t, 64)
	f := openImage(t, path, vblk.FileOptions{})
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Ftruncate(fd, 4096))
	gone, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	defer func() { must(t, unix.Munmap(gone)) }()
	must(t, unix.Ftruncate(fd, 0))
	for _, p := range [][][]byte{{gone[:512]}, {make([]byte, 512), gone[:512]}} {
		if err := f.ReadVec(slices.Clone(p), 0); !errors.Is(err, unix.EFAULT) {
			t.Errorf("read into it: %v", err)
		}
		if err := f.WriteVec(slices.Clone(p), 0, false); !errors.Is(err, unix.EFAULT) {
			t.Errorf("write from it: %v", err)
		}
	}
}
