package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// linkByMAC finds an interface; its name may change when a driver is bound anew.
func linkByMAC(mac string) (netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if strings.EqualFold(l.Attrs().HardwareAddr.String(), mac) {
			return l, nil
		}
	}
	return nil, fmt.Errorf("no interface has the address %s", mac)
}

func netUp(a guestapi.NetUp) (guestapi.NetInfo, error) {
	link, err := linkByMAC(a.MAC)
	if err != nil {
		return guestapi.NetInfo{}, err
	}
	if a.MTU > 0 {
		if err := netlink.LinkSetMTU(link, a.MTU); err != nil {
			return guestapi.NetInfo{}, fmt.Errorf("set MTU %d: %w", a.MTU, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return guestapi.NetInfo{}, fmt.Errorf("set %s up: %w", link.Attrs().Name, err)
	}
	for _, s := range a.Addrs {
		addr, err := netlink.ParseAddr(s)
		if err != nil {
			return guestapi.NetInfo{}, err
		}
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD // usable at once
		}
		if err := netlink.AddrReplace(link, addr); err != nil {
			return guestapi.NetInfo{}, fmt.Errorf("add %s to %s: %w", s, link.Attrs().Name, err)
		}
	}
	return netInfo(guestapi.NetName{MAC: a.MAC})
}

func netInfo(a guestapi.NetName) (guestapi.NetInfo, error) {
	link, err := linkByMAC(a.MAC)
	if err != nil {
		return guestapi.NetInfo{}, err
	}
	attrs := link.Attrs()
	i := guestapi.NetInfo{
		Name: attrs.Name, MTU: attrs.MTU, Carrier: attrs.RawFlags&unix.IFF_LOWER_UP != 0,
		RXQueues: len(entries(attrs.Name, "queues/rx-*")), TXQueues: len(entries(attrs.Name, "queues/tx-*")),
		Counters: make(map[string]uint64),
	}
	if i.Features, err = negotiated(attrs.Name); err != nil {
		return i, err
	}
	if i.Offloads, err = offloads(attrs.Name); err != nil {
		return i, err
	}
	for _, path := range entries(attrs.Name, "statistics/*") {
		v, err := readNumber(path)
		if err != nil {
			return i, err
		}
		i.Counters[filepath.Base(path)] = v
	}
	return i, nil
}

func netOffload(a guestapi.NetOffload) (guestapi.NetInfo, error) {
	link, err := linkByMAC(a.MAC)
	if err != nil {
		return guestapi.NetInfo{}, err
	}
	if err := setOffloads(link.Attrs().Name, a.Set); err != nil {
		return guestapi.NetInfo{}, err
	}
	return netInfo(guestapi.NetName{MAC: a.MAC})
}

const virtioNet = "/sys/bus/virtio/drivers/virtio_net"

// bindTime bounds the wait for an interface after its driver was bound.
const bindTime = 10 * time.Second

// netRebind takes the driver from an interface's device and gives it back: all
// features are negotiated anew, all rings are new. Addresses are lost.
func netRebind(a guestapi.NetName) (guestapi.NetInfo, error) {
	link, err := linkByMAC(a.MAC)
	if err != nil {
		return guestapi.NetInfo{}, err
	}
	path, err := filepath.EvalSymlinks(filepath.Join("/sys/class/net", link.Attrs().Name, "device"))
	if err != nil {
		return guestapi.NetInfo{}, err
	}
	device := []byte(filepath.Base(path)) // virtio3
	for _, what := range []string{"unbind", "bind"} {
		if err := os.WriteFile(filepath.Join(virtioNet, what), device, 0); err != nil {
			return guestapi.NetInfo{}, err
		}
	}
	for end := time.Now().Add(bindTime); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err = linkByMAC(a.MAC); err == nil {
			return netInfo(a)
		}
	}
	return guestapi.NetInfo{}, err
}

// negotiated reads the feature bits that driver and device agreed on: the file
// has one digit for each bit, bit 0 first.
func negotiated(name string) (uint64, error) {
	b, err := os.ReadFile(filepath.Join("/sys/class/net", name, "device/features"))
	if err != nil {
		return 0, err
	}
	var bits uint64
	for i, digit := range strings.TrimSpace(string(b)) {
		if digit == '1' && i < 64 {
			bits |= 1 << i
		}
	}
	return bits, nil
}

// entries are the paths below an interface's sysfs folder that match.
func entries(name, pattern string) []string {
	paths, err := filepath.Glob(filepath.Join("/sys/class/net", name, pattern))
	if err != nil {
		panic(err) // the pattern is ours
	}
	return paths
}

func readNumber(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}
