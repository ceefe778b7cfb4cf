package vhost

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// checkEventfd tells whether fd, which a peer sent, is an eventfd, and makes
// sure that no child inherits it. Otherwise the error is a *NotEventfdError.
//
// O_NONBLOCK is left as it is: it is a flag of the open file description, which
// the peer shares and may change at will. Nothing here relies on it.
func checkEventfd(fd int) error {
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return fmt.Errorf("cannot tell the kind of a received file (is /proc mounted?): %w", err)
	}
	if name != "anon_inode:[eventfd]" {
		return &NotEventfdError{Got: name}
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return fmt.Errorf("eventfd: close-on-exec: %w", err)
	}
	return nil
}

// newEventfd makes an eventfd of our own: it never blocks and is never shared.
func newEventfd() (int, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("eventfd: %w", err)
	}
	return fd, nil
}

// addEventfd adds 1 to the eventfd's counter. A counter that is full is no
// error: whoever waits there has been told.
func addEventfd(fd int) error {
	var one [8]byte
	order.PutUint64(one[:], 1)
	for {
		switch _, err := unix.Write(fd, one[:]); err {
		case nil, unix.EAGAIN:
			return nil
		case unix.EINTR:
		default:
			return fmt.Errorf("eventfd: %w", err)
		}
	}
}
