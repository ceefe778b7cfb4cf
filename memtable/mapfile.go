package memtable

import (
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// MapOptions says how [MapFile] maps.
type MapOptions struct {
	Owner    any  // blamed for faults in this mapping
	ReadOnly bool // PROT_READ only: a store faults
	AnyFile  bool // skip the tmpfs/hugetlbfs test (tests, external memory)
}

// FileError says why a file could not be mapped as shared memory, and what
// whoever sent it should change.
type FileError struct {
	File   FileID
	Offset int64  // asked for
	Size   uint64 // asked for, in bytes
	Reason string // with advice
	Err    error  // of the system call, if one failed
}

func (e *FileError) Error() string {
	s := fmt.Sprintf("mapping %d bytes at offset %d of file %d:%d: %s", e.Size, e.Offset, e.File.Dev, e.File.Ino, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *FileError) Unwrap() error { return e.Err }

// MapFile maps size bytes of the file behind fd, from off on, shared. fd is
// borrowed: it may be closed as soon as MapFile returns, the mapping survives
// that. off and size need no alignment. Errors are a *[FileError].
//
// A file that is shorter than off+size is refused, because the first access
// past its end would fault; the file may still be truncated later.
func MapFile(fd int, off int64, size uint64, o MapOptions) (*Mapping, error) {
	fail := &FileError{Offset: off, Size: size}
	page, err := checkFile(fd, o.AnyFile, fail)
	if err != nil {
		return nil, err
	}
	prot := unix.PROT_READ | unix.PROT_WRITE
	if o.ReadOnly {
		prot = unix.PROT_READ
	}

	// mmap and munmap of huge pages want whole huge pages, so map from the
	// page before to the page after and show the middle. off and size are
	// known to lie within a file, whose size is an int64.
	lead := uint64(off) % page
	length := (lead + size + page - 1) / page * page
	if !takeSpace(length) {
		fail.Reason = "all mappings together would take too much address space: share less, or with fewer ports"
		return nil, fail
	}
	raw, err := unix.Mmap(fd, off-int64(lead), int(length), prot, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		giveSpace(length)
		fail.Reason, fail.Err = mmapAdvice(err), os.NewSyscallError("mmap", err)
		return nil, fail
	}
	// A core dump of ours must not hold the peer's memory.
	if err := unix.Madvise(raw, unix.MADV_DONTDUMP); err != nil {
		_ = unix.Munmap(raw)
		giveSpace(length)
		fail.Reason, fail.Err = "memory cannot be kept out of core dumps", os.NewSyscallError("madvise", err)
		return nil, fail
	}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		seals = -1 // not a memfd, or not on a filesystem with seals
	}

	m := &Mapping{
		mem: raw[lead:][:size], raw: raw,
		file: fail.File, off: off, page: page, seals: seals, owner: o.Owner,
	}
	mappings.add(m)
	return m, nil
}

// checkFile tests the kind and the size of the file against what fail asks
// for, and gives the size of its pages.
func checkFile(fd int, anyFile bool, fail *FileError) (page uint64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		fail.Reason, fail.Err = "no file descriptor", os.NewSyscallError("fstat", err)
		return 0, fail
	}
	fail.File = FileID{Dev: uint64(st.Dev), Ino: st.Ino}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		fail.Reason, fail.Err = "the kind of file is unknown", os.NewSyscallError("fstatfs", err)
		return 0, fail
	}
	page = uint64(os.Getpagesize())
	regular := st.Mode&unix.S_IFMT == unix.S_IFREG
	switch {
	case !regular && !anyFile: // the devices in /dev are files of a tmpfs, too
		fail.Reason = "not shared memory but a device, a pipe or a socket: use a memfd, /dev/shm or hugetlbfs"
		return 0, fail
	case int64(fs.Type) == unix.HUGETLBFS_MAGIC:
		page = uint64(fs.Bsize)
	case int64(fs.Type) == unix.TMPFS_MAGIC, anyFile:
	default:
		fail.Reason = "not shared memory but a file on disk or a device: use a memfd, /dev/shm or hugetlbfs " +
			"(QEMU: -object memory-backend-memfd,share=on)"
		return 0, fail
	}
	return page, checkSize(&st, page, fail)
}

// checkSize tests that the range lies in the file. Devices have no size and are
// left to mmap.
func checkSize(st *unix.Stat_t, page uint64, fail *FileError) error {
	limit := uint64(math.MaxInt64) - 2*page // what length can be rounded up from
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		limit = min(limit, uint64(st.Size))
	}
	switch off, size := fail.Offset, fail.Size; {
	case size == 0:
		fail.Reason = "the region is empty"
	case off < 0:
		fail.Reason = "the offset is past 2^63"
	case size > limit || uint64(off) > limit-size:
		fail.Reason = fmt.Sprintf("the file is smaller than claimed, it has %d bytes: "+
			"the sender must give the file its size before it shares it", st.Size)
	default:
		return nil
	}
	return fail
}

// mmapAdvice says what is usually wrong when mmap refuses.
func mmapAdvice(err error) string {
	switch err {
	case unix.ENOMEM:
		return "no address space or too few free huge pages left (vm.max_map_count, ulimit -v, vm.nr_hugepages)"
	case unix.EACCES, unix.EPERM:
		return "the file is not open for writing or sealed against it: share it read-write"
	default:
		return "the file cannot be mapped"
	}
}
