package fabric

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/vhost/vhosttest"
)

// made gives a descriptor of the test's, closed with it.
func (s *scene) made(fd int, err error) int {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { unix.Close(fd) })
	return fd
}

// memfd makes memory of size bytes, sealed as seals say.
func (s *scene) memfd(size int64, seals int) int {
	s.tb.Helper()
	fd := s.made(unix.MemfdCreate("culprit", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING))
	if err := unix.Ftruncate(fd, size); err != nil {
		s.tb.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		s.tb.Fatal(err)
	}
	return fd
}

// wrongFiles are files of the wrong kind, whatever for.
func wrongFiles() map[string]func(s *scene) int {
	return map[string]func(s *scene) int{
		"pipe": func(s *scene) int {
			var p [2]int
			if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
				s.tb.Fatal(err)
			}
			s.made(p[0], nil)
			return s.made(p[1], nil)
		},
		"socket":    func(s *scene) int { return s.made(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)) },
		"/dev/zero": func(s *scene) int { return s.made(unix.Open("/dev/zero", unix.O_RDWR|unix.O_CLOEXEC, 0)) },
		"/dev/null": func(s *scene) int { return s.made(unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)) },
		"epoll":     func(s *scene) int { return s.made(unix.EpollCreate1(unix.EPOLL_CLOEXEC)) },
		"folder":    func(s *scene) int { return s.made(unix.Open("/", unix.O_RDONLY|unix.O_CLOEXEC, 0)) },
		"path":      func(s *scene) int { return s.made(unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)) },
	}
}

// wrongMemory are files that are no memory of 64 KiB to write to.
func wrongMemory() map[string]func(s *scene) int {
	all := wrongFiles()
	all["eventfd"] = func(s *scene) int { return s.eventfd(0) }
	all["a file on a disk"] = func(s *scene) int {
		f, err := os.Create(filepath.Join(onDisk(s.tb), "memory"))
		if err != nil {
			s.tb.Fatal(err)
		}
		s.tb.Cleanup(func() { f.Close() })
		if err := f.Truncate(int64(own.Size)); err != nil {
			s.tb.Fatal(err)
		}
		return int(f.Fd())
	}
	all["memory that is too small"] = func(s *scene) int { return s.memfd(int64(own.Size)-1, 0) }
	all["memory without a byte"] = func(s *scene) int { return s.memfd(0, 0) }
	all["memory sealed against writing"] = func(s *scene) int { return s.memfd(int64(own.Size), unix.F_SEAL_WRITE) }
	all["memory sealed against future writing"] = func(s *scene) int { return s.memfd(int64(own.Size), unix.F_SEAL_FUTURE_WRITE) }
	all["memory open for reading"] = func(s *scene) int {
		fd := s.memfd(int64(own.Size), 0)
		return s.made(unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0))
	}
	return all
}

// onDisk is a folder that is not in memory.
func onDisk(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || int64(fs.Type) == unix.TMPFS_MAGIC {
		tb.Skip("the folder for temporary files is in memory")
	}
	return dir
}

// wrongEventfds are files that are no eventfd.
func wrongEventfds() map[string]func(s *scene) int {
	all := wrongFiles()
	all["memory"] = func(s *scene) int { return s.memfd(4096, 0) }
	all["a file on a disk"] = wrongMemory()["a file on a disk"]
	all["timerfd"] = func(s *scene) int { return s.made(unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)) }
	return all
}

// refusedFile sends a message with a file, once so that it can be refused and
// once so that it cannot.
func (s *scene) refusedFile(request vhost.Request, payload []byte, fd int, refusable bool) {
	s.tb.Helper()
	m := badMessage{request: request, payload: raw(payload), file: func(*vhosttest.Guest) []int { return []int{fd} }}
	g := s.enter(vhosttest.Options{})
	if refusable {
		reply, alive := m.send(s, g, version|needReply)
		if !alive || len(reply) != 8 || binary.NativeEndian.Uint64(reply) == 0 {
			s.tb.Fatalf("not refused: the connection lives %v, reply % x", alive, reply)
		}
		s.works(g)
	}
	session := s.session()
	if _, alive := m.send(s, g, version); alive {
		s.tb.Fatal("not refused where there is no other answer than the end")
	}
	s.expelled(session)
}

func TestAFileOfTheWrongKindIsRefused(t *testing.T) {
	s := stage(t, PortOptions{})
	there := moved(func(*vhost.MemRegion) {})
	for name, file := range wrongMemory() {
		s.act(t, "region/"+name, func(s *scene) {
			s.refusedFile(vhost.AddMemReg, bytesOf(s.tb, vhost.SingleRegion(there)), file(s), true)
		})
		s.act(t, "table/"+name, func(s *scene) {
			s.refusedFile(vhost.SetMemTable, table(1, there), file(s), true)
		})
		s.act(t, "log/"+name, func(s *scene) {
			s.refusedFile(vhost.SetLogBase, bytesOf(s.tb, vhost.LogBase{Size: own.Size}), file(s), false)
		})
	}
	for name, file := range wrongEventfds() {
		for what, request := range map[string]vhost.Request{"kick": vhost.SetVringKick, "call": vhost.SetVringCall, "error": vhost.SetVringErr} {
			for ring := range uint8(2) {
				s.act(t, what+"/"+name, func(s *scene) {
					s.refusedFile(request, bytesOf(s.tb, vhost.VringFD{Index: ring}), file(s), true)
				})
			}
		}
	}
	for name, file := range wrongFiles() {
		if name == "socket" {
			name = "socket that nobody is at"
		}
		s.act(t, "channel/"+name, func(s *scene) { s.refusedFile(vhost.SetBackendReqFD, nil, file(s), true) })
	}
	s.flow.end()
}
