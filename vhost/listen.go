package vhost

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ListenOptions say who may connect.
type ListenOptions struct {
	Mode uint32 // 0: 0660
	UID  int    // -1: leave
	GID  int    // -1: leave
}

const (
	defaultMode = 0o660
	// maxPath is the length of sockaddr_un's path, less its closing zero.
	maxPath = 107
	backlog = 128
	// probeLimit bounds the wait for a socket that may be live.
	probeLimit = 2 * time.Second
)

// Listen makes the socket at path. A file that a dead process left there is
// replaced; a socket that someone listens on, and any other file, is an error
// that says what to do. Nobody can connect before mode and owner are set. The
// file is removed when the listener is closed.
func Listen(path string, o ListenOptions) (*net.UnixListener, error) {
	if len(path) == 0 || len(path) > maxPath {
		return nil, fmt.Errorf("socket path %q has %d bytes: use one of 1 to %d", path, len(path), maxPath)
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close() // FileListener makes its own copy
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, bindError(path, err)
	}
	l, err := open(f, fd, path, o)
	if err != nil {
		_ = os.Remove(path)
		return nil, err
	}
	return l, nil
}

// open makes a bound socket ready for those it is for, and only then listens:
// until listen(2) a connection is refused, whatever the file's mode.
func open(f *os.File, fd int, path string, o ListenOptions) (*net.UnixListener, error) {
	if err := os.Lchown(path, o.UID, o.GID); err != nil {
		return nil, fmt.Errorf("socket %s: owner: only root may give files away; leave uid and gid out: %w", path, err)
	}
	if err := os.Chmod(path, fs.FileMode(cmp.Or(o.Mode, defaultMode))); err != nil {
		return nil, fmt.Errorf("socket %s: mode: %w", path, err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, fmt.Errorf("socket %s: listen: %w", path, err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	u := l.(*net.UnixListener)
	u.SetUnlinkOnClose(true)
	return u, nil
}

// clearStale removes the socket of a process that is gone.
func clearStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("socket %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("socket %s: a file that is no socket is in the way: remove it, or use another path", path)
	}
	c, err := net.DialTimeout("unix", path, probeLimit)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return inUse(path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("socket %s: left behind by a process that is gone, and cannot be removed: %w", path, err)
	}
	return nil
}

// inUse says that path must be left alone: someone answered, or it could not
// be told (err).
func inUse(path string, err error) error {
	if err == nil {
		err = unix.EADDRINUSE
	}
	return fmt.Errorf("socket %s: a running process seems to listen there: stop it, or use another path: %w", path, err)
}

// bindError says what to change.
func bindError(path string, err error) error {
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("socket %s: directory %s does not exist: make it first: %w", path, dir, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EROFS), errors.Is(err, unix.EPERM):
		return fmt.Errorf("socket %s: may not create files in %s: change the directory's owner or mode, or the user: %w", path, dir, err)
	case errors.Is(err, unix.EADDRINUSE):
		return inUse(path, err)
	}
	return fmt.Errorf("socket %s: %w", path, err)
}
