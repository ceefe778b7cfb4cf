package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/vhostd/vhostd/virtio"
)

// set gives one option of a port its value, as it is written after --net.
func (n *Net) set(option, value string) (err error) {
	switch option {
	case "mode":
		n.Mode, err = parseMode(value)
	case "mac":
		n.MAC, err = parseMAC(value)
	case "queues":
		n.Queues, err = parseNumber(value, 1, maxPairs)
	case "owner":
		n.Owner, err = ParseOwner(value)
	case "group":
		n.Group, err = value, checkName(value)
	case "perm":
		n.Perm, err = ParsePerm(value)
	case "mtu":
		var mtu int
		mtu, err = parseNumber(value, minMTU, 65535)
		n.MTU = uint16(mtu)
	case "features":
		n.Features, err = parseFeatures(value)
	case "":
		err = errors.New("there is a comma too many, or an option without a name")
	default:
		err = errors.New("there is none of this name; " +
			"a port has mode, mac, queues, owner, group, perm, mtu and features")
	}
	return err
}

func parseMode(s string) (Mode, error) {
	switch s {
	case "server":
		return Server, nil
	case "client":
		return Client, nil
	}
	return 0, fmt.Errorf("%q is neither server (vhostd listens) nor client (QEMU listens)", s)
}

func parseMAC(s string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(s)
	switch {
	case err != nil || len(mac) != 6:
		return nil, fmt.Errorf("%q is not a MAC address like 52:54:00:12:34:56", s)
	case mac[0]&1 != 0:
		return nil, fmt.Errorf("%s is a group address; a device's has an even first byte", mac)
	case mac.String() == "00:00:00:00:00:00":
		return nil, fmt.Errorf("%s is no device's address", mac)
	}
	return mac, nil
}

func parseNumber(s string, lo, hi int) (int, error) {
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil || v < uint64(lo) || v > uint64(hi) {
		return 0, fmt.Errorf("%q is not a number from %d to %d", s, lo, hi)
	}
	return int(v), nil
}

// ParsePerm reads a socket's mode in octal. Who may connect can read and write
// guest memory's files, so that nothing is for others.
func ParsePerm(s string) (os.FileMode, error) {
	v, err := strconv.ParseUint(s, 8, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not an octal mode like 0660", s)
	}
	mode := os.FileMode(v)
	if mode&0o600 != 0o600 || mode&^0o660 != 0 {
		return 0, fmt.Errorf("%q lets the wrong people in: use 0600, 0620, 0640 or 0660", s)
	}
	return mode, nil
}

// Features is how a port's offer differs from what the switch offers by itself.
type Features struct{ Add, Remove virtio.Features }

// parseFeatures reads +name,-name,… with the specification's names.
func parseFeatures(s string) (f Features, err error) {
	for part := range strings.SplitSeq(s, ",") {
		if part == "" || part[0] != '+' && part[0] != '-' {
			return f, fmt.Errorf("%q has neither + (offer it) nor - (do not) before a feature's name", part)
		}
		bit, err := virtio.ParseFeature(virtio.Net, part[1:])
		if err != nil {
			return f, err
		}
		if (f.Add|f.Remove)&bit != 0 {
			return f, fmt.Errorf("%s is named twice", part[1:])
		}
		if part[0] == '+' {
			f.Add |= bit
		} else {
			f.Remove |= bit
		}
	}
	return f, nil
}
