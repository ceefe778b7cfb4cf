package memtable_test

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// memfdName makes the files of these tests findable in /proc.
const memfdName = "memtable-test"

// memfd makes a sealable memfd of size bytes that lives as long as the test.
func memfd(t testing.TB, size int64) int {
	t.Helper()
	fd, err := unix.MemfdCreate(memfdName, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Skip("no memfd:", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Ftruncate(fd, size); err != nil {
		t.Fatal(err)
	}
	return fd
}

// mapped maps all or part of a memfd until the test ends.
func mapped(t testing.TB, fd int, off int64, size uint64, owner any) *memtable.Mapping {
	t.Helper()
	m, err := memtable.MapFile(fd, off, size, memtable.MapOptions{Owner: owner})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestMappingShowsTheFileAtItsOffset(t *testing.T) {
	page := int64(os.Getpagesize())
	fd := memfd(t, 4*page)
	for _, c := range []struct {
		name string
		off  int64
		size uint64
	}{
		{"whole", 0, uint64(4 * page)},
		{"second page", page, uint64(page)},
		{"odd bytes", page - 3, 7},
		{"last byte", 4*page - 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mapped(t, fd, c.off, c.size, "peer")
			want := bytes.Repeat([]byte{0xa5}, int(c.size))
			if n, err := unix.Pwrite(fd, want, c.off); n != len(want) || err != nil {
				t.Fatal(n, err)
			}
			if !bytes.Equal(m.Bytes(), want) {
				t.Error("what was written to the file is not in the mapping")
			}
			m.VA().Bytes(c.size)[c.size-1] = 0x5a
			var b [1]byte
			if _, err := unix.Pread(fd, b[:], c.off+int64(c.size)-1); err != nil || b[0] != 0x5a {
				t.Errorf("what was written to the mapping is not in the file: %x, %v", b, err)
			}
			if m.Size() != c.size || m.Offset() != c.off || m.Owner() != "peer" || m.PageSize() != uint64(page) {
				t.Errorf("size %d, offset %d, owner %v, page %d", m.Size(), m.Offset(), m.Owner(), m.PageSize())
			}
		})
	}
}

func TestMappingOutlivesItsDescriptor(t *testing.T) {
	fd := memfd(t, 4096)
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := mapped(t, dup, 0, 4096, nil)
	unix.Close(dup)
	m.Bytes()[0] = 7
	if again := mapped(t, fd, 0, 4096, nil); again.Bytes()[0] != 7 || again.File() != m.File() {
		t.Errorf("not the same file: %v and %v", again.File(), m.File())
	}
	if other := mapped(t, memfd(t, 4096), 0, 4096, nil); other.File() == m.File() {
		t.Error("two files have one identity")
	}
}

func TestMapFileRefusesWhatWouldFault(t *testing.T) {
	fd := memfd(t, 8192)
	for _, c := range []struct {
		name string
		off  int64
		size uint64
		says string
	}{
		{"empty", 0, 0, "empty"},
		{"one byte too many", 0, 8193, "smaller than claimed"},
		{"begins at the end", 8192, 1, "smaller than claimed"},
		{"begins past the end", 1 << 40, 1, "smaller than claimed"},
		{"negative offset", -4096, 4096, "offset"},
		{"sum wraps", math.MaxInt64, math.MaxUint64 - 10, "smaller than claimed"},
		{"sum wraps to little", 4096, math.MaxUint64 - 4000, "smaller than claimed"},
		{"everything", 0, math.MaxUint64, "smaller than claimed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := memtable.MapFile(fd, c.off, c.size, memtable.MapOptions{})
			e, ok := errors.AsType[*memtable.FileError](err)
			if !ok || !strings.Contains(e.Error(), c.says) || e.Size != c.size || e.Offset != c.off {
				t.Errorf("MapFile: %v, want a FileError about %q", err, c.says)
			}
		})
	}
	if _, err := memtable.MapFile(-1, 0, 1, memtable.MapOptions{}); !errors.Is(err, unix.EBADF) {
		t.Errorf("no descriptor: %v", err)
	}
}

func TestMapFileWantsSharedMemory(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	if _, err := memtable.MapFile(pipe[0], 0, 4096, memtable.MapOptions{}); err == nil || !strings.Contains(err.Error(), "memfd") {
		t.Errorf("a pipe: %v, want advice", err)
	}

	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(4096); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type == unix.TMPFS_MAGIC {
		t.Skip("the temporary directory is a tmpfs:", err)
	}
	if _, err := memtable.MapFile(int(f.Fd()), 0, 4096, memtable.MapOptions{}); err == nil || !strings.Contains(err.Error(), "memfd") {
		t.Errorf("a file on disk: %v, want advice", err)
	}
	m, err := memtable.MapFile(int(f.Fd()), 0, 4096, memtable.MapOptions{AnyFile: true})
	if err != nil {
		t.Fatal("with AnyFile:", err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := memtable.MapFile(int(f.Fd()), 0, 4097, memtable.MapOptions{AnyFile: true}); err == nil {
		t.Error("AnyFile must not turn off the test of the size")
	}
}

func TestSealsAreThoseAtMapTime(t *testing.T) {
	fd := memfd(t, 4096)
	before := mapped(t, fd, 0, 4096, nil)
	const sealed = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, sealed); err != nil {
		t.Fatal(err)
	}
	after := mapped(t, fd, 0, 4096, nil)
	if s, ok := before.Seals(); s != 0 || !ok {
		t.Errorf("before: %#x, %v", s, ok)
	}
	if s, ok := after.Seals(); s != sealed || !ok {
		t.Errorf("after: %#x, %v", s, ok)
	}
	if s, ok := memtable.Wrap(nil, memtable.FileID{}, 0, nil).Seals(); s != 0 || ok {
		t.Errorf("wrapped: %#x, %v", s, ok)
	}
}

func TestWriteSealedFileIsRefusedWithAdviceAndMapsReadOnly(t *testing.T) {
	fd := memfd(t, 4096)
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != nil {
		t.Fatal(err)
	}
	_, err := memtable.MapFile(fd, 0, 4096, memtable.MapOptions{})
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "read-write") {
		t.Errorf("MapFile: %v, want EPERM and advice", err)
	}
	m, err := memtable.MapFile(fd, 0, 4096, memtable.MapOptions{ReadOnly: true})
	if errors.Is(err, unix.EPERM) {
		t.Skip("this kernel (before 6.7) maps no sealed file shared:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Bytes()[0] != 0 {
		t.Error("not readable")
	}
}

func TestResidentCountsWhatWasTouched(t *testing.T) {
	page := uint64(os.Getpagesize())
	// More pages than one chunk, so that the chunks must add up.
	pages := uint64(70_000)
	m := mapped(t, memfd(t, int64(pages*page)), 0, pages*page, nil)
	check := func(want uint64) {
		t.Helper()
		if got, err := m.Resident(); got != want || err != nil {
			t.Errorf("Resident() = %d, %v; want %d", got, err, want)
		}
	}
	check(0)
	m.Bytes()[0] = 1
	m.Bytes()[65_536*page] = 1
	m.Bytes()[pages*page-1] = 1
	check(3 * page)
}

func TestResidentCountsOddBytes(t *testing.T) {
	fd := memfd(t, 3*4096)
	if _, err := unix.Pwrite(fd, make([]byte, 3*4096), 0); err != nil {
		t.Fatal(err)
	}
	if got, err := mapped(t, fd, 4095, 4098, nil).Resident(); got != 4098 || err != nil {
		t.Errorf("Resident() = %d, %v; want 4098", got, err)
	}
}

func TestHugePagesAreMappedAtAnyOffset(t *testing.T) {
	const huge = 2 << 20
	fd, err := unix.MemfdCreate(memfdName, unix.MFD_CLOEXEC|unix.MFD_HUGETLB|unix.MFD_HUGE_2MB)
	if err != nil {
		t.Skip("no huge pages of 2 MiB:", err)
	}
	defer unix.Close(fd)
	if err := unix.Fallocate(fd, 0, 0, 2*huge); err != nil {
		t.Skip("no two free huge pages (vm.nr_hugepages):", err)
	}
	m, err := memtable.MapFile(fd, huge+4096, 8192, memtable.MapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m.Bytes()[0] = 1
	whole := mapped(t, fd, 0, 2*huge, nil)
	if whole.Bytes()[huge+4096] != 1 || m.PageSize() != huge || m.Size() != 8192 {
		t.Errorf("page size %d, size %d, or the wrong place", m.PageSize(), m.Size())
	}
	if err := m.Close(); err != nil { // munmap wants whole huge pages
		t.Error(err)
	}
}
