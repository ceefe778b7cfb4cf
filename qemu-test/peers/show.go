package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// ask runs vhostd show, the way an operator's script would.
func (v *Vhostd) ask(what, port string) ([]byte, error) {
	args := []string{"show", what, "--json", "--control", v.control}
	if port != "" {
		args = append(args, port)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, v.cmd.Path, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return out, err
}

func show[T any](v *Vhostd, what, port string) []T {
	v.t.Helper()
	out, err := v.ask(what, port)
	var list struct{ Items []T }
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	if err != nil {
		v.t.Fatalf("vhostd show %s %s: %v", what, port, err)
	}
	return list.Items
}

// Queues is what these tests look at in vhostd show queues.
type Queues struct {
	State    string
	Features struct{ Names []string }
	Rings    []struct {
		Name             string
		Size             uint16
		Started, Enabled bool
		Broken           string
		BadChains        map[string]uint64 `json:"bad_chains"`
	}
}

// Queues asks for one port's; none if no front-end is there.
func (v *Vhostd) Queues(port string) (q Queues) {
	v.t.Helper()
	if all := show[Queues](v, "queues", port); len(all) > 0 {
		q = all[0]
	}
	return q
}

// Running says whether so many rings of a port are started and enabled.
func (v *Vhostd) Running(port string, rings int) bool {
	v.t.Helper()
	n := 0
	for _, r := range v.Queues(port).Rings {
		if r.Started && r.Enabled {
			n++
		}
	}
	return n == rings
}

// Region is what these tests look at of a region in vhostd show mem.
type Region struct {
	Size     uint64
	Inode    uint64
	Offset   int64
	PageSize uint64 `json:"page_size"`
}

// Regions are those that a port's front-end shares.
func (v *Vhostd) Regions(port string) []Region {
	v.t.Helper()
	return only[struct{ Regions []Region }](v, "mem", port).Regions
}

// PageSizes are those of the regions that a port's front-end shares, in bytes.
func (v *Vhostd) PageSizes(port string) (sizes []uint64) {
	v.t.Helper()
	for _, r := range v.Regions(port) {
		sizes = append(sizes, r.PageSize)
	}
	return sizes
}

// Port is what these tests look at in vhostd show ports.
type Port struct{ Connects uint64 }

// Port asks for one.
func (v *Vhostd) Port(name string) Port {
	v.t.Helper()
	return only[Port](v, "ports", name)
}

// Stats is what these tests look at in vhostd show stats.
type Stats struct {
	InFrames  uint64            `json:"in_frames"`  // from the front-end
	OutFrames uint64            `json:"out_frames"` // to it
	Drops     map[string]uint64 // frames, by reason
}

// Stats asks for one port's.
func (v *Vhostd) Stats(port string) Stats {
	v.t.Helper()
	return only[Stats](v, "stats", port)
}

func only[T any](v *Vhostd, what, port string) T {
	v.t.Helper()
	all := show[T](v, what, port)
	if len(all) != 1 {
		v.t.Fatalf("vhostd show %s %s: %d ports", what, port, len(all))
	}
	return all[0]
}

// CheckFeatures checks that a test tests what it is named for: +name must have
// been negotiated, -name must not.
func CheckFeatures(t testing.TB, names []string, signed ...string) {
	t.Helper()
	for _, s := range signed {
		name, want := s[1:], s[0] == '+'
		if slices.Contains(names, name) != want {
			t.Errorf("negotiated %s: is %s among them? want %v", strings.Join(names, " "), name, want)
		}
	}
}
