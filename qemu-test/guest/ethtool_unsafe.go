package main

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
	"golang.org/x/sys/unix"
)

// switches are the ethtool commands that get and set one offload.
var switches = map[string]struct{ get, set uint32 }{
	"rx":  {unix.ETHTOOL_GRXCSUM, unix.ETHTOOL_SRXCSUM},
	"tx":  {unix.ETHTOOL_GTXCSUM, unix.ETHTOOL_STXCSUM},
	"sg":  {unix.ETHTOOL_GSG, unix.ETHTOOL_SSG},
	"tso": {unix.ETHTOOL_GTSO, unix.ETHTOOL_STSO},
	"gso": {unix.ETHTOOL_GGSO, unix.ETHTOOL_SGSO},
	"gro": {unix.ETHTOOL_GGRO, unix.ETHTOOL_SGRO},
}

// ethtoolValue is struct ethtool_value of <linux/ethtool.h>.
type ethtoolValue struct{ cmd, data uint32 }

// ethtoolRequest is struct ifreq of <linux/if.h> with ifr_data.
type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data *ethtoolValue
	_    [16]byte // the union is larger than a pointer
}

// ethtool makes one SIOCETHTOOL call and returns the value's data.
func ethtool(fd int, name string, cmd, data uint32) (uint32, error) {
	v := ethtoolValue{cmd, data}
	r := ethtoolRequest{data: &v}
	copy(r.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r)))
	if errno != 0 {
		return 0, errno
	}
	return v.data, nil
}

func withSocket(f func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(f(fd), unix.Close(fd))
}

func offloads(name string) (guestapi.Offloads, error) {
	state := make(guestapi.Offloads)
	err := withSocket(func(fd int) error {
		for what, cmd := range switches {
			v, err := ethtool(fd, name, cmd.get, 0)
			if err != nil {
				return fmt.Errorf("get %s of %s: %w", what, name, err)
			}
			state[what] = v != 0
		}
		return nil
	})
	return state, err
}

// order has what others need before them: checksums and scatter-gather first.
var order = []string{"rx", "tx", "sg", "gso", "tso", "gro"}

// setOffloads switches off what others need last, then on what they need first.
func setOffloads(name string, set guestapi.Offloads) error {
	for what := range set {
		if !slices.Contains(order, what) {
			return fmt.Errorf("no offload is named %q; there are %q", what, order)
		}
	}
	return withSocket(func(fd int) error {
		for _, what := range slices.Backward(order) {
			if on, ok := set[what]; ok && !on {
				if _, err := ethtool(fd, name, switches[what].set, 0); err != nil {
					return fmt.Errorf("switch %s of %s off: %w", what, name, err)
				}
			}
		}
		for _, what := range order {
			if set[what] {
				if _, err := ethtool(fd, name, switches[what].set, 1); err != nil {
					return fmt.Errorf("switch %s of %s on: %w", what, name, err)
				}
			}
		}
		return nil
	})
}
