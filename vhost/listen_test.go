package vhost

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var anyone = ListenOptions{UID: -1, GID: -1}

func listen(t *testing.T, path string, o ListenOptions) *net.UnixListener {
	t.Helper()
	l, err := Listen(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestListenReplacesTheSocketOfADeadProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()

	l := listen(t, path, anyone)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file stays after Close (%v)", err)
	}
}

func TestListenLeavesALiveSocketAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	l := listen(t, path, anyone)
	_, err := Listen(path, anyone)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	// The first one still answers: the probe's connection, then ours.
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the live socket is gone: %v", err)
	} else {
		c.Close()
	}
	for range 2 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

func TestListenNeverRemovesOtherFiles(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "nowhere"), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, dir} {
		if l, err := Listen(path, anyone); err == nil {
			l.Close()
			t.Errorf("%s was replaced", path)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s is gone: %v", path, err)
		}
	}
}

func TestListenSetsTheModeWhateverTheUmask(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	for mode, want := range map[uint32]os.FileMode{0: 0o660, 0o600: 0o600, 0o666: 0o666} {
		path := filepath.Join(t.TempDir(), "sock")
		listen(t, path, ListenOptions{Mode: mode, UID: os.Getuid(), GID: os.Getgid()})
		info, err := os.Lstat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("mode %v, want %v (%v)", info.Mode(), want, err)
		}
	}
}

func TestListenSaysWhatToChange(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		"": "use one of 1 to",
		filepath.Join(dir, strings.Repeat("x", 108)): "use one of 1 to",
		filepath.Join(dir, "missing", "sock"):        "make it first",
	} {
		l, err := Listen(path, anyone)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", path, err, want)
		}
	}
	if os.Getuid() == 0 {
		return // root may write and give files where it likes
	}
	if _, err := Listen(filepath.Join(dir, "sock"), ListenOptions{UID: 0, GID: -1}); err == nil {
		t.Error("a file was given to root")
	}
	if _, err := os.Lstat(filepath.Join(dir, "sock")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a socket that could not be made stays")
	}
}
