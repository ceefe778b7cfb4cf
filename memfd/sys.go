package memfd

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// kernel is every system call the arena makes, and the only way it makes them:
// tests let the k-th one fail, or keep the books of a kernel that is not there.
type kernel interface {
	create(name string, flags int) (fd int, err error)
	seal(fd int, seals int) error
	duplicate(fd int) (own int, err error)
	identify(fd int) (memtable.FileID, error)
	allocate(fd int, off, n int64, on where) error // pages that read zero, or an error: never a fault later
	punch(fd int, off, n int64) error
	close(fd int) error

	reserve(at, n uint64) ([]byte, error)               // address space without memory: at 0 anywhere, else there or EEXIST
	unmap(mem []byte) error                             // the end of a reservation, or of a part of it
	mapFile(at []byte, fd int, off int64) error         // over a part of a reservation
	mapOthers(at []byte, fd int, off int64) error       // the same of a file that is not ours, whose pages may not be there
	hide(at []byte) error                               // puts the reservation back over what was mapped there
	undump(at []byte) error                             // keeps it out of core dumps
	nodes(mem []byte, page uint64, nodes []int32) error // the NUMA node of each page; negative: of none
	home() (node int, err error)                        // of the calling thread
	touch(at []byte) error                              // brings what was swapped out back into memory
	read(path string) ([]byte, error)                   // of /proc and /sys
	list(path string) (names []string, err error)       // a directory there
}

// linux is the kernel itself.
type linux struct{}

func (linux) create(name string, flags int) (int, error) {
	fd, err := unix.MemfdCreate(name, flags)
	return fd, os.NewSyscallError("memfd_create", err)
}

func (linux) seal(fd, seals int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	return os.NewSyscallError("fcntl", err)
}

func (linux) duplicate(fd int) (int, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return own, os.NewSyscallError("fcntl", err)
}

func (linux) identify(fd int) (memtable.FileID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return memtable.FileID{}, os.NewSyscallError("fstat", err)
	}
	return memtable.FileID{Dev: uint64(st.Dev), Ino: st.Ino}, nil
}

// where says on which NUMA node memory is to lie.
type where struct {
	node int // AnyNode: any
	wish bool
}

// allocate takes the pages from one node by the policy of a thread, which lasts
// for as long as the thread: its goroutine never unlocks it, so it ends with it.
// A wish that the kernel does not want to hear of is none.
func (k linux) allocate(fd int, off, n int64, on where) error {
	if on.node < 0 {
		return k.fallocate(fd, off, n)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := k.bind(on)
		if err == nil || on.wish {
			err = k.fallocate(fd, off, n)
		}
		done <- err
	}()
	return <-done
}

// bind makes the calling thread take memory from one node, only or at first. The
// kernel reads as many bits of the mask, less one, as the wrapper says it has
// bytes.
func (linux) bind(on where) error {
	mask := unix.NewCPUSet(8 * (on.node + 2))
	mask.Set(on.node)
	mode := unix.MPOL_BIND
	if on.wish {
		mode = unix.MPOL_PREFERRED
	}
	return os.NewSyscallError("set_mempolicy", unix.SetMemPolicyDynamic(mode, mask))
}

// punch goes in one step: of a huge page that a step has a part of only, the
// kernel clears that part and keeps the page. No signal interrupts it.
func (linux) punch(fd int, off, n int64) error {
	return os.NewSyscallError("fallocate", unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n))
}

// fallocate goes in steps, because a signal interrupts it, and what a step has
// done before it is not done again. A part of a huge page brings all of it.
func (linux) fallocate(fd int, off, n int64) error {
	const most = 64 << 20
	for n > 0 {
		step := min(n, most)
		err := unix.Fallocate(fd, 0, off, step)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("fallocate", err)
		}
		off, n = off+step, n-step
	}
	return nil
}

func (linux) close(fd int) error { return os.NewSyscallError("close", unix.Close(fd)) }

func (linux) undump(at []byte) error {
	return os.NewSyscallError("madvise", unix.Madvise(at, unix.MADV_DONTDUMP))
}

func (linux) touch(at []byte) error {
	return os.NewSyscallError("madvise", unix.Madvise(at, unix.MADV_POPULATE_READ))
}

func (linux) read(path string) ([]byte, error) { return os.ReadFile(path) }

func (linux) list(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}
