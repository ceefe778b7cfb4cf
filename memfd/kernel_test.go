package memfd

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// saboteur is the kernel, except that the calls it is told of fail. A call that
// fails leaves behind what the worst of real ones leave behind.
type saboteur struct {
	linux

	mu    sync.Mutex
	calls int               // since the last arm
	fail  map[int]error     // by number of the call, from 1 on
	hits  []string          // which calls failed
	files map[string]string // what reading a file gives, instead of what is there
}

// arm lets the k-th calls from now on fail.
func (s *saboteur) arm(err error, ks ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.hits, s.fail = 0, nil, make(map[int]error)
	for _, k := range ks {
		s.fail[k] = err
	}
}

// failed tells which calls failed since arm.
func (s *saboteur) failed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits
}

func (s *saboteur) next(call string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	err := s.fail[s.calls]
	if err != nil {
		s.hits = append(s.hits, call)
	}
	return err
}

func (s *saboteur) create(name string, flags int) (int, error) {
	if err := s.next("create"); err != nil {
		return -1, err
	}
	return s.linux.create(name, flags)
}

func (s *saboteur) seal(fd, seals int) error {
	if err := s.next("seal"); err != nil {
		return err
	}
	return s.linux.seal(fd, seals)
}

func (s *saboteur) duplicate(fd int) (int, error) {
	if err := s.next("duplicate"); err != nil {
		return -1, err
	}
	return s.linux.duplicate(fd)
}

func (s *saboteur) identify(fd int) (memtable.FileID, error) {
	if err := s.next("identify"); err != nil {
		return memtable.FileID{}, err
	}
	return s.linux.identify(fd)
}

// allocate that fails has taken half of the pages.
func (s *saboteur) allocate(fd int, off, n int64, on where) error {
	if err := s.next("allocate"); err != nil {
		_ = s.linux.allocate(fd, off, (n/2+4095)&^4095, on)
		return err
	}
	return s.linux.allocate(fd, off, n, on)
}

func (s *saboteur) punch(fd int, off, n int64) error {
	if err := s.next("punch"); err != nil {
		return err
	}
	return s.linux.punch(fd, off, n)
}

// close frees the descriptor whatever it answers, as Linux does.
func (s *saboteur) close(fd int) error {
	err := s.next("close")
	if e := s.linux.close(fd); err == nil {
		err = e
	}
	return err
}

func (s *saboteur) reserve(at, n uint64) ([]byte, error) {
	if err := s.next("reserve"); err != nil {
		return nil, err
	}
	return s.linux.reserve(at, n)
}

func (s *saboteur) unmap(mem []byte) error {
	if err := s.next("unmap"); err != nil {
		return err
	}
	return s.linux.unmap(mem)
}

// mapFile that fails has torn a hole where the reservation was.
func (s *saboteur) mapFile(at []byte, fd int, off int64) error {
	if err := s.next("mapFile"); err != nil {
		_ = s.linux.unmap(at)
		return err
	}
	return s.linux.mapFile(at, fd, off)
}

func (s *saboteur) mapOthers(at []byte, fd int, off int64) error {
	if err := s.next("mapOthers"); err != nil {
		_ = s.linux.unmap(at)
		return err
	}
	return s.linux.mapOthers(at, fd, off)
}

func (s *saboteur) hide(at []byte) error {
	if err := s.next("hide"); err != nil {
		return err
	}
	return s.linux.hide(at)
}

func (s *saboteur) undump(at []byte) error {
	if err := s.next("undump"); err != nil {
		return err
	}
	return s.linux.undump(at)
}

func (s *saboteur) nodes(mem []byte, page uint64, nodes []int32) error {
	if err := s.next("nodes"); err != nil {
		return err
	}
	return s.linux.nodes(mem, page, nodes)
}

func (s *saboteur) touch(at []byte) error {
	if err := s.next("touch"); err != nil {
		return err
	}
	return s.linux.touch(at)
}

func (s *saboteur) read(path string) ([]byte, error) {
	if s.files != nil {
		text, ok := s.files[path]
		if !ok {
			return nil, unix.ENOENT
		}
		return []byte(text), nil
	}
	return s.linux.read(path)
}

// paper is a kernel that keeps no memory at all: nothing is behind what it maps,
// so a million pages cost nothing and may not be touched.
type paper struct{ linux }

func (paper) allocate(int, int64, int64, where) error { return nil }
func (paper) punch(int, int64, int64) error           { return nil }
func (paper) mapFile([]byte, int, int64) error        { return nil }
func (paper) hide([]byte) error                       { return nil }
func (paper) undump([]byte) error                     { return nil }
func (paper) touch([]byte) error                      { return nil }
func (paper) read(string) ([]byte, error)             { return nil, unix.ENOENT }
