package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Blk is one disk: a vhost-user socket, and the file behind it.
type Blk struct {
	Name     string // also the ids in QEMU's arguments
	Socket   string // path
	File     string // a raw image or a block device
	Mode     Mode
	Queues   int   // request queues
	Owner    Owner // of the socket; zero: who runs the daemon
	Perm     os.FileMode
	Serial   string // what the guest reads as the disk's name
	ReadOnly bool
	Direct   bool   // past the page cache
	Origin   string // where it was written: "--blk" or file:line:column
}

const maxSerial = 20 // bytes (virtio 1.2, 5.2.6)

// ParseBlk reads the value of --blk: NAME=SOCKET,file=DISK[,option[=value]]…
func ParseBlk(s string) (Blk, error) {
	head, rest, more := strings.Cut(s, ",")
	name, socket, ok := strings.Cut(head, "=")
	b := Blk{Name: name, Socket: socket, Origin: "--blk"}
	if !ok || !more {
		return Blk{}, &Error{Origin: b.Origin, Err: fmt.Errorf("%q is not NAME=SOCKET,file=DISK[,option[=value]]…", s)}
	}
	seen := make(map[string]bool)
	for part := range strings.SplitSeq(rest, ",") {
		option, value, _ := strings.Cut(part, "=")
		if seen[option] {
			return Blk{}, &Error{b.Origin, name, option, errors.New("is given twice")}
		}
		seen[option] = true
		if err := b.set(option, value); err != nil {
			return Blk{}, &Error{b.Origin, name, option, err}
		}
	}
	return b, b.finish()
}

// set gives one option of a disk its value, as it is written after --blk.
func (b *Blk) set(option, value string) (err error) {
	switch option {
	case "file":
		b.File = value
	case "ro":
		b.ReadOnly, err = parseSwitch(value)
	case "direct":
		b.Direct, err = parseSwitch(value)
	case "serial":
		if b.Serial = value; len(value) > maxSerial {
			err = fmt.Errorf("%q is longer than %d bytes", value, maxSerial)
		}
	case "queues":
		b.Queues, err = parseNumber(value, 1, maxPairs)
	case "mode":
		b.Mode, err = parseMode(value)
	case "owner":
		b.Owner, err = ParseOwner(value)
	case "perm":
		b.Perm, err = ParsePerm(value)
	case "":
		err = errors.New("there is a comma too many, or an option without a name")
	default:
		err = errors.New("there is none of this name; a disk has file, ro, direct, serial, queues, mode, owner and perm")
	}
	return err
}

// parseSwitch reads an option that stands for itself, or is on or off.
func parseSwitch(s string) (bool, error) {
	switch s {
	case "", "on", "true":
		return true, nil
	case "off", "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither on nor off", s)
}

// finish checks what concerns the whole disk and fills in the defaults.
func (b *Blk) finish() error {
	n := b.port()
	if err := n.finish(); err != nil {
		return err
	}
	b.Socket, b.Queues, b.Perm = n.Socket, n.Queues, n.Perm
	if b.File == "" {
		return &Error{b.Origin, b.Name, "file", errors.New("is missing: name a raw image or a block device")}
	}
	var err error
	if b.File, err = filepath.Abs(b.File); err != nil {
		return &Error{b.Origin, b.Name, "file", err}
	}
	return nil
}

// port is what a disk has in common with a port of a switch.
func (b *Blk) port() Net {
	return Net{Name: b.Name, Socket: b.Socket, Mode: b.Mode, Queues: b.Queues, Owner: b.Owner, Perm: b.Perm, Origin: b.Origin}
}
