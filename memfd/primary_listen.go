package memfd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// listen makes a socket that keeps the borders of messages. Who may connect is
// said by its mode, and again by who they are when they do.
func listen(path string, mode os.FileMode) (*net.UnixListener, error) {
	addr := &net.UnixAddr{Name: path, Net: "unixpacket"}
	l, err := net.ListenUnix("unixpacket", addr)
	if errors.Is(err, unix.EADDRINUSE) && abandoned(path) {
		if err = os.Remove(path); err == nil {
			l, err = net.ListenUnix("unixpacket", addr)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("a socket for secondaries: %w", err)
	}
	if !strings.HasPrefix(path, "@") { // which is no file
		if err := os.Chmod(path, mode); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// abandoned tells whether path is a socket that nobody listens at.
func abandoned(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	c, err := net.DialTimeout("unixpacket", path, time.Second)
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, unix.ECONNREFUSED)
}

// credentials tells who made the connection, and gives a file that is readable
// when that process has ended: its number may be another's then.
func credentials(c *net.UnixConn) (cred *unix.Ucred, alive *os.File, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	pidfd := -1
	if e := raw.Control(func(fd uintptr) {
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return
		}
		// Kernels before 6.5 give no such file of the connection. It may be one
		// of a later process then, which costs only that this one's end is seen late.
		if pidfd, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD); err != nil {
			pidfd, err = unix.PidfdOpen(int(cred.Pid), 0)
		}
	}); e != nil {
		err = e
	}
	if err == nil {
		err = unix.SetNonblock(pidfd, true) // so that the runtime waits for it
	}
	if err != nil {
		if pidfd >= 0 {
			_ = unix.Close(pidfd)
		}
		return nil, nil, fmt.Errorf("who the secondary is (Linux 5.3 or newer is needed): %w", err)
	}
	return cred, os.NewFile(uintptr(pidfd), "pidfd"), nil
}

// awaitEnd returns true when the process has ended, and false when alive is
// closed.
func awaitEnd(alive *os.File) bool {
	raw, err := alive.SyscallConn()
	if err != nil {
		return false
	}
	ended := false
	_ = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		ended = err == nil && n == 1 && poll[0].Revents&unix.POLLIN != 0
		return ended
	})
	return ended
}
