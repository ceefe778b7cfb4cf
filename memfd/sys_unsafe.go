package memfd

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The reservation is made and unmade here. All memory in it is a slice of the
// one that reserve gave, so every address that is mapped over is ours.

// Kernels before 4.17 take a fixed address for a hint, and go elsewhere instead
// of failing.
func (k linux) reserve(at, n uint64) ([]byte, error) {
	flags := unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
	if at != 0 {
		flags |= unix.MAP_FIXED_NOREPLACE
	}
	p, err := unix.MmapPtr(-1, 0, unsafe.Add(nil, at), uintptr(n), unix.PROT_NONE, flags)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	mem := unsafe.Slice((*byte)(p), n)
	if at != 0 && addressOf(mem) != at {
		_ = k.unmap(mem) // nobody knows of it
		return nil, os.NewSyscallError("mmap", unix.EEXIST)
	}
	return mem, nil
}

func (linux) unmap(mem []byte) error {
	return os.NewSyscallError("munmap", unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(mem)), uintptr(len(mem))))
}

// mapFile does not reserve: the pages are there, and a reservation would
// outlive the hole that is punched for them. It populates, which cannot fail
// for the same reason, so that no first touch costs a fault.
func (linux) mapFile(at []byte, fd int, off int64) error {
	return mapShared(at, fd, off, unix.MAP_POPULATE)
}

// mapOthers does not populate: that would take memory for what nobody touches.
func (linux) mapOthers(at []byte, fd int, off int64) error { return mapShared(at, fd, off, 0) }

func mapShared(at []byte, fd int, off int64, how int) error {
	_, err := unix.MmapPtr(fd, off, unsafe.Pointer(unsafe.SliceData(at)), uintptr(len(at)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED|unix.MAP_NORESERVE|how)
	return os.NewSyscallError("mmap", err)
}

func (linux) hide(at []byte) error {
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(unsafe.SliceData(at)), uintptr(len(at)), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED|unix.MAP_NORESERVE)
	return os.NewSyscallError("mmap", err)
}

// addressOf is for arithmetic; it never becomes a pointer again.
func addressOf(mem []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) }
