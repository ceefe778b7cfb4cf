package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func rngRead(a guestapi.Count) (guestapi.Bytes, error) {
	f, err := os.Open("/dev/hwrng")
	if err != nil {
		return guestapi.Bytes{}, err
	}
	defer f.Close()
	p := make([]byte, a.Bytes)
	if _, err := io.ReadFull(f, p); err != nil {
		return guestapi.Bytes{}, err
	}
	return guestapi.Bytes{Data: p}, nil
}

func readFile(a guestapi.File) (guestapi.Bytes, error) {
	path := filepath.Clean(a.Path)
	if !strings.HasPrefix(path, "/sys/") && !strings.HasPrefix(path, "/proc/") {
		return guestapi.Bytes{}, fmt.Errorf("%s is not below /sys or /proc", path)
	}
	p, err := os.ReadFile(path)
	return guestapi.Bytes{Data: p}, err
}

// held is the memory of mem.fill: it must stay reachable.
var held struct {
	mu    sync.Mutex
	bytes int64
}

func memory(nothing) (guestapi.Mem, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return guestapi.Mem{}, err
	}
	var m guestapi.Mem
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			continue
		}
		switch f[0] {
		case "MemTotal:":
			m.Total = kib << 10
		case "MemFree:":
			m.Free = kib << 10
		}
	}
	held.mu.Lock()
	defer held.mu.Unlock()
	m.Held = held.bytes
	return m, nil
}

// memoryFill takes pages from the kernel for good. The kernel hands out the
// highest memory first: what it allocates afterwards lies lower.
func memoryFill(a guestapi.Count) (guestapi.Mem, error) {
	if a.Bytes > 0 {
		_, err := unix.Mmap(-1, 0, int(a.Bytes), unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
		if err != nil {
			return guestapi.Mem{}, err
		}
		held.mu.Lock()
		held.bytes += a.Bytes
		held.mu.Unlock()
	}
	return memory(nothing{})
}

// reboot restarts the machine. Interfaces go down before: at shutdown Linux 6.1
// marks virtqueues broken while drivers still run, and virtio_net, which is
// transmitting at that moment, waits for ever for what a broken queue completes.
func reboot() error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		if err := netlink.LinkSetDown(l); err != nil {
			return err
		}
	}
	return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}
