package config

import (
	"errors"
	"fmt"
	"iter"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Net is one port of a switch: a vhost-user socket that a guest is attached to.
type Net struct {
	Name     string // also the ids in QEMU's arguments
	Socket   string // path
	Mode     Mode
	MAC      net.HardwareAddr // of the guest's device, in the printed arguments
	Queues   int              // queue pairs
	Owner    Owner            // of the socket; zero: who runs the daemon
	Group    string           // ports of one group are switched together
	Perm     os.FileMode      // of the socket
	MTU      uint16           // bytes; 0: not announced
	Features Features
	Origin   string // where it was written: "--net" or file:line:column
}

// Mode says who listens at the socket.
type Mode uint8

// The daemon's role at a socket; QEMU's is the other one.
const (
	Server Mode = iota // the daemon listens, QEMU connects
	Client             // QEMU listens (server=on), the daemon connects
)

func (m Mode) String() string {
	if m == Client {
		return "client"
	}
	return "server"
}

// What a port has when nothing else was said.
const (
	defaultGroup = "default"
	defaultPerm  = os.FileMode(0o660)
	defaultPairs = 1
)

// Limits of a port.
const (
	maxPairs  = 64
	maxName   = 32
	maxSocket = 107 // sun_path without its NUL (unix(7))
	minMTU    = 68  // virtio 1.2, 5.1.4
)

// ParseNet reads the value of --net: NAME=SOCKET[,option=value]…
//
// The list of features has commas of its own: what follows it and begins with
// + or - belongs to it.
func ParseNet(s string) (Net, error) {
	head, rest, more := strings.Cut(s, ",")
	name, socket, ok := strings.Cut(head, "=")
	n := Net{Name: name, Socket: socket, Origin: "--net"}
	if !ok {
		return Net{}, &Error{Origin: n.Origin, Err: fmt.Errorf("%q is not NAME=SOCKET[,option=value]…", s)}
	}
	if !more {
		return n, n.finish()
	}
	seen := make(map[string]bool)
	for option, value := range options(rest) {
		if seen[option] {
			return Net{}, &Error{n.Origin, name, option, errors.New("is given twice")}
		}
		seen[option] = true
		if err := n.set(option, value); err != nil {
			return Net{}, &Error{n.Origin, name, option, err}
		}
	}
	return n, n.finish()
}

// options yields the option and value pairs of a comma-separated list.
func options(list string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		parts := strings.Split(list, ",")
		for len(parts) > 0 {
			option, value, _ := strings.Cut(parts[0], "=")
			parts = parts[1:]
			for option == "features" && len(parts) > 0 && signed(parts[0]) {
				value += "," + parts[0]
				parts = parts[1:]
			}
			if !yield(option, value) {
				return
			}
		}
	}
}

// signed says whether s is one more feature in a list of them.
func signed(s string) bool { return strings.HasPrefix(s, "+") || strings.HasPrefix(s, "-") }

// finish checks what concerns the whole port and fills in the defaults.
func (n *Net) finish() error {
	if err := checkName(n.Name); err != nil {
		return &Error{n.Origin, n.Name, "", err}
	}
	if err := checkSocket(n.Socket); err != nil {
		return &Error{n.Origin, n.Name, "socket", err}
	}
	n.Socket = filepath.Clean(n.Socket)
	if n.Mode == Client && (n.Owner != Owner{} || n.Perm != 0) {
		return &Error{n.Origin, n.Name, "mode", errors.New(
			"with mode=client QEMU makes the socket: leave out owner and perm, and set them there")}
	}
	if n.Queues == 0 {
		n.Queues = defaultPairs
	}
	if n.Group == "" {
		n.Group = defaultGroup
	}
	if n.Perm == 0 {
		n.Perm = defaultPerm
	}
	return nil
}

// checkName holds names to what QEMU takes for an id, because they become one.
func checkName(name string) error {
	if name == "" {
		return errors.New("the name is empty")
	}
	if len(name) > maxName {
		return fmt.Errorf("the name %.40q is longer than %d characters", name, maxName)
	}
	for i, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		other := '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_'
		if !letter && (i == 0 || !other) {
			return fmt.Errorf("the name %q may have letters, digits, '-', '.' and '_', and begins with a letter", name)
		}
	}
	return nil
}

func checkSocket(path string) error {
	switch {
	case path == "":
		return errors.New("the path is empty")
	case strings.ContainsAny(path, "\x00\n"):
		return fmt.Errorf("the path %q has a character that no shell passes on", path)
	case len(path) > maxSocket:
		return fmt.Errorf("the path is %d bytes long, a unix socket's may have %d: choose a shorter folder", len(path), maxSocket)
	}
	return nil
}
