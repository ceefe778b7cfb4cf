package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"path/filepath"
)

// Check looks at all ports and disks together, those of flags and those of the
// file: names and sockets must be different, MAC addresses different in a group.
// Sockets become absolute paths, since QEMU may run elsewhere. Ports without a
// MAC address get one.
func Check(nets []Net, blks []Blk, control string) error {
	if len(nets)+len(blks) == 0 {
		return errors.New("there is no port: give --net NAME=SOCKET or --blk NAME=SOCKET,file=DISK, " +
			"or --config with a [[net]] or [[blk]] table")
	}
	all := make([]*Net, 0, len(nets)+len(blks))
	for i := range nets {
		all = append(all, &nets[i])
	}
	for i := range blks {
		all = append(all, new(blks[i].port()))
	}
	if err := distinct(all, control); err != nil {
		return err
	}
	for i := range blks {
		blks[i].Socket = all[len(nets)+i].Socket // it is absolute now
	}
	return assignMACs(nets)
}

// distinct finds names and sockets that are there twice.
func distinct(all []*Net, control string) error {
	names, sockets := make(map[string]*Net), make(map[string]*Net)
	for _, n := range all {
		if err := n.absolute(); err != nil {
			return err
		}
		if other, ok := names[n.Name]; ok {
			return &Error{n.Origin, n.Name, "", fmt.Errorf(
				"a port of this name is there already (%s, %s): give one of them another name", other.Origin, other.Socket)}
		}
		if other, ok := sockets[n.Socket]; ok {
			return &Error{n.Origin, n.Name, "socket", fmt.Errorf(
				"%s is the socket of port %q already (%s)", n.Socket, other.Name, other.Origin)}
		}
		if n.Socket == control {
			return &Error{n.Origin, n.Name, "socket", fmt.Errorf(
				"%s is the control socket: give the port or --control another path", n.Socket)}
		}
		names[n.Name], sockets[n.Socket] = n, n
	}
	return nil
}

// absolute makes the socket's path so; it must still be short enough.
func (n *Net) absolute() error {
	path, err := filepath.Abs(n.Socket)
	if err == nil {
		err = checkSocket(path)
	}
	if err != nil {
		return &Error{n.Origin, n.Name, "socket", err}
	}
	n.Socket = path
	return nil
}

// assignMACs gives ports without an address one that is the same at every
// start: two guests with QEMU's own default would be one to the switch.
func assignMACs(nets []Net) error {
	taken := make(map[string]string) // group and address → port
	key := func(n *Net, mac net.HardwareAddr) string { return n.Group + " " + mac.String() }
	for i := range nets {
		n := &nets[i]
		if n.MAC == nil {
			continue
		}
		if other, ok := taken[key(n, n.MAC)]; ok {
			return &Error{n.Origin, n.Name, "mac", fmt.Errorf(
				"%s is the address of port %q in the same group %q", n.MAC, other, n.Group)}
		}
		taken[key(n, n.MAC)] = n.Name
	}
	for i := range nets {
		n := &nets[i]
		for try := 0; n.MAC == nil; try++ {
			mac := derivedMAC(n.Name, try)
			if _, ok := taken[key(n, mac)]; !ok {
				n.MAC = mac
				taken[key(n, mac)] = n.Name
			}
		}
	}
	return nil
}

// derivedMAC makes an address under the prefix that QEMU's addresses have.
func derivedMAC(name string, try int) net.HardwareAddr {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, try))
	return net.HardwareAddr{0x52, 0x54, 0x00, sum[0], sum[1], sum[2]}
}
