package vhost

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// fdSet holds the files that came with one message. Take moves one out; what
// nobody took is closed with the message, so no path can forget one.
type fdSet struct {
	fds []int // -1: taken
}

// Len tells how many files came, taken or not.
func (s *fdSet) Len() int { return len(s.fds) }

// Take hands file i over: the caller closes it from here on.
func (s *fdSet) Take(i int) (int, error) {
	if i < 0 || i >= len(s.fds) || s.fds[i] < 0 {
		return -1, fmt.Errorf("file %d of %d: it did not come, or was taken", i, len(s.fds))
	}
	fd := s.fds[i]
	s.fds[i] = -1
	return fd, nil
}

// add takes files in.
func (s *fdSet) add(fds []int) { s.fds = append(s.fds, fds...) }

// Close closes what is left and empties the set.
func (s *fdSet) Close() {
	for _, fd := range s.fds {
		closeFD(fd)
	}
	s.fds = s.fds[:0]
}

// closeFD closes a file if there is one (-1: none).
func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd) // the number is gone whatever close says
	}
}
