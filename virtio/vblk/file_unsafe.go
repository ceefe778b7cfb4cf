package vblk

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// discard gives n bytes at off of a block device back to it.
func discard(fd int, off, n int64) error {
	span := [2]uint64{uint64(off), uint64(n)} // linux/fs.h, BLKDISCARD: start and length
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKDISCARD, uintptr(unsafe.Pointer(&span)))
	if errno != 0 {
		return errno
	}
	return nil
}
