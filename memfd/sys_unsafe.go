package memfd

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The reservation is made and unmade here. All memory in it is a slice of the
// one that reserve gave, so every address that is mapped over is ours.

func (linux) reserve(n uint64) ([]byte, error) {
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(n), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return unsafe.Slice((*byte)(p), n), nil
}

func (linux) unmap(mem []byte) error {
	return os.NewSyscallError("munmap", unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(mem)), uintptr(len(mem))))
}

// mapFile does not reserve: the pages are there, and a reservation would
// outlive the hole that is punched for them. It populates, which cannot fail
// for the same reason, so that no first touch costs a fault.
func (linux) mapFile(at []byte, fd int, off int64) error {
	_, err := unix.MmapPtr(fd, off, unsafe.Pointer(unsafe.SliceData(at)), uintptr(len(at)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED|unix.MAP_NORESERVE|unix.MAP_POPULATE)
	return os.NewSyscallError("mmap", err)
}

func (linux) hide(at []byte) error {
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(unsafe.SliceData(at)), uintptr(len(at)), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED|unix.MAP_NORESERVE)
	return os.NewSyscallError("mmap", err)
}

// addressOf is for arithmetic; it never becomes a pointer again.
func addressOf(mem []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) }
