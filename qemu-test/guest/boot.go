package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
	"golang.org/x/sys/unix"
)

func mountAll() error {
	for _, m := range []struct{ fs, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fs, m.at, m.fs, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s at %s: %w", m.fs, m.at, err)
		}
	}
	return nil
}

// loadModules loads /modules/NAME for each name of a comma-separated list; the
// harness has put dependencies first.
func loadModules(list string) error {
	if list == "" {
		return nil
	}
	for name := range strings.SplitSeq(list, ",") {
		f, err := os.Open(filepath.Join("/modules", name))
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		// EEXIST: built in or loaded. ENOENT here is an unknown symbol.
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	return nil
}

// portTime bounds the wait for the port: its device is probed while we run.
const portTime = 20 * time.Second

// openPort opens the virtio-serial port of the agent's name.
func openPort() (*os.File, error) {
	for end := time.Now().Add(portTime); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, path := range names {
			name, err := os.ReadFile(path)
			if err != nil || strings.TrimSpace(string(name)) != guestapi.Port {
				continue
			}
			device := filepath.Join("/dev", filepath.Base(filepath.Dir(path)))
			// Blocking: the runtime's poller would be told of a hang-up at
			// each moment the host's end is not there.
			fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, fmt.Errorf("open %s: %w", device, err)
			}
			return os.NewFile(uintptr(fd), device), nil
		}
	}
	return nil, fmt.Errorf("no virtio-serial port is named %q after %v", guestapi.Port, portTime)
}
