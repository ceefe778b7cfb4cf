package vblk

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// FileOptions say how a file is opened.
type FileOptions struct {
	ReadOnly bool
	// Direct asks for O_DIRECT: data does not go through the page cache. Requests
	// that are not aligned as the disk wants it do all the same.
	Direct bool
}

// FileInfo is what a file turned out to be.
type FileInfo struct {
	Device    bool   // a block device
	Direct    bool   // requests go past the page cache where they are aligned
	Discard   bool   // room can be given back
	BlockSize uint32 // bytes, which the disk reads and writes at least
}

// File is a raw image or a block device as a [Storage].
type File struct {
	cached *os.File
	direct *os.File // nil: without O_DIRECT
	info   FileInfo
}

var _ Storage = (*File)(nil)

// OpenFile opens a raw image or a block device. While it is open no other
// vhostd writes to it, nor does who mounts a block device.
func OpenFile(path string, o FileOptions) (_ *File, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := new(File)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFBLK:
		f.info.Device = true
	default:
		return nil, fmt.Errorf("%s: a disk is a file or a block device, and this is neither", path)
	}
	flags := os.O_RDWR
	if o.ReadOnly {
		flags = os.O_RDONLY
	} else if f.info.Device {
		flags |= unix.O_EXCL // the kernel's own users (mounts, swap, raid) are refused
	}
	// Between stat and open the name may have become a FIFO: that must not block.
	if f.cached, err = os.OpenFile(path, flags|unix.O_NONBLOCK, 0); err != nil {
		if errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("%w: unmount it, or add ro", err)
		}
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := f.lock(o.ReadOnly); err != nil {
		return nil, err
	}
	if o.Direct {
		// A filesystem without O_DIRECT says EINVAL: then the page cache it is.
		f.direct, err = os.OpenFile(path, flags&^unix.O_EXCL|unix.O_DIRECT|unix.O_NONBLOCK, 0)
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return nil, err
		}
	}
	if err := f.look(o.ReadOnly); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// lock keeps two writers, and a writer and readers, apart.
func (f *File) lock(readOnly bool) error {
	how := unix.LOCK_EX
	if readOnly {
		how = unix.LOCK_SH
	}
	err := unix.Flock(f.fd(), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%s: another process has the disk open for writing, or this one wants to write to a disk "+
			"that others read: end it, or add ro to both", f.cached.Name())
	}
	return os.NewSyscallError("flock", err)
}

// look finds out what the disk can do.
func (f *File) look(readOnly bool) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	if size < SectorSize {
		return fmt.Errorf("it has %d bytes, less than one sector: give it its size with truncate -s", size)
	}
	f.info.BlockSize, f.info.Direct = SectorSize, f.direct != nil
	if f.info.Device {
		bs, err := unix.IoctlGetInt(f.fd(), unix.BLKSSZGET)
		if err != nil {
			return os.NewSyscallError("BLKSSZGET", err)
		}
		f.info.BlockSize = uint32(bs)
		f.info.Discard = !readOnly && discards(f.fd())
		return nil
	}
	if !readOnly {
		// Behind the end there is nothing to lose: only whether it can be is told.
		f.info.Discard = unix.Fallocate(f.fd(), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, size, 4096) == nil
	}
	return nil
}

// discards says whether a block device takes discards. A partition's limits are
// its disk's.
func discards(fd int) bool {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return false
	}
	sys := fmt.Sprintf("/sys/dev/block/%d:%d/", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	for _, path := range []string{"queue/", "../queue/"} {
		if text, err := os.ReadFile(sys + path + "discard_max_bytes"); err == nil {
			return strings.TrimSpace(string(text)) != "0"
		}
	}
	return false
}

func (f *File) fd() int { return int(f.cached.Fd()) }

// Info tells what the file turned out to be.
func (f *File) Info() FileInfo { return f.info }

// Close closes the file. Nobody may be using it.
func (f *File) Close() error {
	if f.direct != nil {
		f.direct.Close()
	}
	return f.cached.Close()
}

// Size implements [Storage].
func (f *File) Size() (int64, error) {
	size, err := unix.Seek(f.fd(), 0, unix.SEEK_END) // a block device's stat has none
	return size, os.NewSyscallError("lseek", err)
}

// Sync implements [Storage].
func (f *File) Sync() error {
	return os.NewSyscallError("fdatasync", again(func() error { return unix.Fdatasync(f.fd()) }))
}
