package qemutest

import (
	"fmt"
	"strconv"
	"strings"
)

// What "vhostd show --json" says, as far as scenarios look at it.

// Hex is a number that is written as "0x1f".
type Hex uint64

// UnmarshalText reads it.
func (h *Hex) UnmarshalText(b []byte) error {
	digits, ok := strings.CutPrefix(string(b), "0x")
	v, err := strconv.ParseUint(digits, 16, 64)
	if !ok || err != nil {
		return fmt.Errorf("%q is not a hexadecimal number", b)
	}
	*h = Hex(v)
	return nil
}

// Bits are feature bits.
type Bits struct {
	Bits  Hex      `json:"bits"`
	Names []string `json:"names"`
}

// PortState is an item of "show ports".
type PortState struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	MTU      int    `json:"mtu"`
	Offered  Bits   `json:"offered"`
	Features Bits   `json:"features"`
	Connects int    `json:"connects"`
}

// PortMemory is an item of "show mem".
type PortMemory struct {
	Port    string `json:"port"`
	Slots   int    `json:"slots"`
	Size    uint64 `json:"size"`
	Regions []struct {
		Guest    Hex    `json:"guest_address"`
		Size     uint64 `json:"size"`
		Offset   int64  `json:"offset"`
		Resident uint64 `json:"resident"`
	} `json:"regions"`
}

// PortStats is an item of "show stats".
type PortStats struct {
	Port      string            `json:"port"`
	InFrames  uint64            `json:"in_frames"`
	InBytes   uint64            `json:"in_bytes"`
	OutFrames uint64            `json:"out_frames"`
	OutBytes  uint64            `json:"out_bytes"`
	Drops     map[string]uint64 `json:"drops"`
}

// PortQueues is an item of "show queues".
type PortQueues struct {
	Port  string `json:"port"`
	State string `json:"state"`
	Rings []struct {
		Index     int               `json:"index"`
		Started   bool              `json:"started"`
		Enabled   bool              `json:"enabled"`
		Broken    string            `json:"broken"`
		Chains    uint64            `json:"chains"`
		BadChains map[string]uint64 `json:"bad_chains"`
	} `json:"rings"`
}
