// Nobody runs a program without rights: as user 65534, without capabilities and
// with no way to get any. `go test -exec` runs tests by it, which shows that they
// need none:
//
//	go build -o bin/nobody ./tools/nobody
//	go test -exec bin/nobody ./memfd
package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// id is the user and group that own nothing.
const id = 65534

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: nobody PROGRAM ARGUMENTS…")
		os.Exit(2)
	}
	err := become(os.Args[1], os.Args[1:])
	fmt.Fprintln(os.Stderr, "nobody:", err)
	os.Exit(1)
}

// become replaces this process by the program, if all goes well.
func become(path string, args []string) error {
	// The promise that no program gives us rights belongs to a thread.
	runtime.LockOSThread()
	program, err := open(path)
	if err != nil {
		return err
	}
	if os.Getuid() == 0 {
		if err := drop(); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	return fmt.Errorf("running %s: %w", path, syscall.Exec(program, args, os.Environ()))
}

// open gives a path by which the program can be run whatever the rights: tests
// are built where only their owner may go. Such a path leads to the open file.
func open(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("opening %s: %w", path, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), nil
}

// drop gives up root, and with it all capabilities.
func drop() error {
	for _, step := range []func() error{
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setgid(id) },
		func() error { return syscall.Setuid(id) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("dropping rights: %w", err)
		}
	}
	return nil
}
