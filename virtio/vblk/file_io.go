package vblk

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// vecMax is how many pieces the kernel takes in one call (UIO_MAXIOV).
const vecMax = 1024

// ReadVec implements [Storage]. What the file does not have any more, because
// somebody cut it, is io.ErrUnexpectedEOF.
func (f *File) ReadVec(p [][]byte, off int64) error {
	return f.vec("preadv", p, off, func(fd int, p [][]byte, off int64) (int, error) {
		return unix.Preadv(fd, p, off)
	})
}

// WriteVec implements [Storage].
func (f *File) WriteVec(p [][]byte, off int64, durable bool) error {
	flags := 0
	if durable {
		flags = unix.RWF_DSYNC // of this write, as if the file were open with O_DSYNC
	}
	return f.vec("pwritev2", p, off, func(fd int, p [][]byte, off int64) (int, error) {
		return unix.Pwritev2(fd, p, off, flags)
	})
}

// vec does all of p, past the page cache where that is possible. What is not
// aligned for it is refused with EINVAL as a whole, and goes through the cache:
// the kernel keeps the two consistent.
func (f *File) vec(name string, p [][]byte, off int64, call func(int, [][]byte, int64) (int, error)) error {
	fd := f.fd()
	if f.direct != nil {
		fd = int(f.direct.Fd())
	}
	for len(p) > 0 {
		n, err := call(fd, p[:min(len(p), vecMax)], off)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EINVAL) && fd != f.fd():
			fd = f.fd()
			continue
		case err != nil:
			return os.NewSyscallError(name, err)
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		off += int64(n)
		p = advance(p, n)
	}
	return nil
}

// advance takes n bytes off the front of p.
func advance(p [][]byte, n int) [][]byte {
	for len(p) > 0 && n >= len(p[0]) {
		n -= len(p[0])
		p = p[1:]
	}
	if n > 0 {
		p[0] = p[0][n:]
	}
	return p
}

// Discard implements [Storage].
func (f *File) Discard(off, n int64) error {
	if f.info.Device {
		return os.NewSyscallError("BLKDISCARD", again(func() error { return discard(f.fd(), off, n) }))
	}
	return f.allocate(unix.FALLOC_FL_PUNCH_HOLE, off, n)
}

// Zero implements [Storage]. Where the disk has no short way, zeroes are
// written.
func (f *File) Zero(off, n int64, unmap bool) error {
	if unmap && f.info.Discard && f.allocate(unix.FALLOC_FL_PUNCH_HOLE, off, n) == nil {
		return nil
	}
	err := f.allocate(unix.FALLOC_FL_ZERO_RANGE, off, n)
	if err == nil || !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	for n > 0 {
		m := min(n, int64(len(zeroes)))
		if err := f.WriteVec([][]byte{zeroes[:m]}, off, false); err != nil {
			return err
		}
		off, n = off+m, n-m
	}
	return nil
}

// zeroes are what is written where nothing else helps. They are never changed.
var zeroes [256 << 10]byte

// allocate changes what stands behind n bytes, and never the file's size.
func (f *File) allocate(mode uint32, off, n int64) error {
	return os.NewSyscallError("fallocate", again(func() error {
		return unix.Fallocate(f.fd(), mode|unix.FALLOC_FL_KEEP_SIZE, off, n)
	}))
}

// again repeats a call that a signal interrupted; the Go runtime sends them.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
