package vhost

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// The files that a schedule of FuzzServer may send, by their number there.
const (
	fileRAM     = iota // memory: four rings, their buffers and tables
	fileMore           // memory
	fileLog            // memory, for the dirty log
	fileSealed         // memory that cannot shrink
	fileKick           // four eventfds follow, one for each ring
	fileCall    = fileKick + 4
	fileErr     = fileCall + 4
	fileReaders = fileErr + 1 // memory that nobody may write
	fileEmpty   = fileErr + 2 // memory without a byte
	filePipe    = fileErr + 3
	fileNull    = fileErr + 4
	fileDisk    = fileErr + 5
	fileSocket  = fileErr + 6 // made when first sent
	fileCount   = fileErr + 7
	memories    = fileKick
	eventfdEnd  = fileErr + 1
)

// pagesOf is the size of each memory when a schedule begins.
var pagesOf = [memories]int{8, 4, 1, 2}

// memfile is a memory of the driver's, with what the driver knows to be in it:
// what differs, the device wrote.
type memfile struct {
	size  int // now
	view  []byte
	known []byte
}

// world is all that a schedule can touch. It is made once; reset makes it new.
type world struct {
	fds    [fileCount]int
	mem    [memories]memfile
	jammed [fileCount]bool
	shrunk bool // memory was truncated: its users may end at any time
	other  int  // our end of fileSocket; -1: it was not made
}

func newWorld(tb testing.TB) *world {
	w := &world{other: -1}
	for i := range w.fds {
		w.fds[i] = -1
	}
	for i, pages := range pagesOf {
		w.fds[i] = fuzzMemory(tb, pages*guestPage)
		view, err := unix.Mmap(w.fds[i], 0, pages*guestPage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		ok(tb, err)
		w.mem[i] = memfile{view: view, known: make([]byte, len(view))}
	}
	_, err := unix.FcntlInt(uintptr(w.fds[fileSealed]), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK)
	ok(tb, err)
	for i := fileKick; i < eventfdEnd; i++ {
		w.fds[i], err = newEventfd()
		ok(tb, err)
	}
	w.fds[fileReaders] = fuzzMemory(tb, guestPage)
	_, err = unix.FcntlInt(uintptr(w.fds[fileReaders]), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
	ok(tb, err)
	w.fds[fileEmpty] = fuzzMemory(tb, 0)
	var p [2]int
	ok(tb, unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	unix.Close(p[0])
	w.fds[filePipe] = p[1]
	w.fds[fileNull], err = unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	ok(tb, err)
	w.fds[fileDisk], err = unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	ok(tb, err)
	tb.Cleanup(w.close)
	return w
}

func fuzzMemory(tb testing.TB, size int) int {
	fd, err := unix.MemfdCreate("test-guest", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	ok(tb, err)
	ok(tb, unix.Ftruncate(fd, int64(size)))
	return fd
}

func (w *world) close() {
	for _, m := range w.mem {
		_ = unix.Munmap(m.view)
	}
	for _, fd := range w.fds {
		closeFD(fd)
	}
	closeFD(w.other)
}

// reset makes everything as it was in the beginning.
func (w *world) reset(tb testing.TB) {
	for i := range w.mem {
		m := &w.mem[i]
		if m.size != len(m.view) {
			ok(tb, unix.Ftruncate(w.fds[i], int64(len(m.view))))
			m.size = len(m.view)
		}
		clear(m.view)
		clear(m.known)
	}
	for i := fileKick; i < eventfdEnd; i++ {
		w.drain(i)
	}
	w.shrunk = false
	w.closeSocket()
}

func (w *world) closeSocket() {
	closeFD(w.fds[fileSocket])
	closeFD(w.other)
	w.fds[fileSocket], w.other = -1, -1
}

// fd gives the file with number i.
func (w *world) fd(i int) int {
	if i == fileSocket && w.other < 0 {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err == nil {
			w.fds[i], w.other = pair[0], pair[1]
		}
	}
	return w.fds[i]
}

// isEventfd says whether file i is one.
func isEventfd(i int) bool { return i >= fileKick && i < eventfdEnd }

// jam fills eventfd i and makes whoever writes to it wait.
func (w *world) jam(i int) {
	w.drain(i)
	var most [8]byte
	order.PutUint64(most[:], 1<<64-2)
	_, _ = unix.Write(w.fds[i], most[:])
	_ = unix.SetNonblock(w.fds[i], false)
	w.jammed[i] = true
}

// drain empties eventfd i, so that whoever waits to write to it goes on.
func (w *world) drain(i int) {
	if w.jammed[i] {
		_ = unix.SetNonblock(w.fds[i], true)
		w.jammed[i] = false
	}
	var count [8]byte
	_, _ = unix.Read(w.fds[i], count[:])
}

// kick adds 1 to eventfd i, if that does not block.
func (w *world) kick(i int) {
	if isEventfd(i) && !w.jammed[i] {
		_ = addEventfd(w.fds[i])
	}
}

// resize truncates memory i to whole pages, or makes it longer.
func (w *world) resize(i, pages int) {
	m := &w.mem[i]
	size := min(pages*guestPage, len(m.view))
	if unix.Ftruncate(w.fds[i], int64(size)) != nil {
		return // sealed
	}
	if size < m.size {
		w.shrunk = true
		clear(m.known[size:])
	}
	m.size = size
}

// write is the driver writing p at off of memory i; what does not fit is cut.
func (w *world) write(i, off int, p []byte) {
	m := &w.mem[i]
	if off < 0 || off >= m.size {
		return
	}
	n := copy(m.view[off:m.size], p)
	copy(m.known[off:], p[:n])
}

// u16 reads at off of memory i; behind its end there are zeros.
func (w *world) u16(i, off int) uint16 {
	if m := &w.mem[i]; off >= 0 && off+2 <= m.size {
		return binary.LittleEndian.Uint16(m.view[off:])
	}
	return 0
}

func (w *world) put16(i, off int, v uint16) {
	w.write(i, off, binary.LittleEndian.AppendUint16(nil, v))
}

// area is a range of bytes of a memory.
type area struct{ file, from, to int }

func (a area) overlaps(b area) bool { return a.file == b.file && a.from < b.to && b.from < a.to }

// verify says where the device wrote and might not. What it might becomes
// known to the driver.
func (w *world) verify(allowed []area) error {
	for _, a := range allowed {
		m := &w.mem[a.file]
		if to := min(a.to, m.size); a.from < to {
			copy(m.known[a.from:to], m.view[a.from:to])
		}
	}
	for i := range w.mem {
		m := &w.mem[i]
		if string(m.view[:m.size]) == string(m.known[:m.size]) {
			continue
		}
		for off := range m.size {
			if m.view[off] != m.known[off] {
				return fmt.Errorf("the device wrote %#x at offset %#x of memory %d, where it must not", m.view[off], off, i)
			}
		}
	}
	return nil
}

// changed says whether the device wrote something new in a.
func (w *world) changed(a area) bool {
	m := &w.mem[a.file]
	to := min(a.to, m.size)
	return a.from < to && string(m.view[a.from:to]) != string(m.known[a.from:to])
}
