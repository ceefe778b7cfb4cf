package control

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Hex is a 64-bit number that is written as "0x1f".
type Hex uint64

// MarshalText writes it for JSON.
func (h Hex) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%#x", uint64(h)), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hex) UnmarshalText(b []byte) error {
	digits, ok := strings.CutPrefix(string(b), "0x")
	v, err := strconv.ParseUint(digits, 16, 64)
	if !ok || err != nil {
		return fmt.Errorf("%.40q is not a hexadecimal number like 0x1f", b)
	}
	*h = Hex(v)
	return nil
}

func (h Hex) String() string { return fmt.Sprintf("%#x", uint64(h)) }

// Bits is a set of feature bits and the specification's names of them.
type Bits struct {
	Bits  Hex      `json:"bits"`
	Names []string `json:"names"`
}

// States of a port.
const (
	Listening = "listening" // the daemon waits for a front-end
	Dialling  = "dialling"  // the daemon looks for a front-end to connect to
	Connected = "connected" // a front-end is there, no ring is started
	Running   = "running"   // a ring is started
	Failed    = "failed"    // the daemon cannot serve the port any more
)

// Port is a port and who is attached to it.
type Port struct {
	Name      string    `json:"name"`
	Group     string    `json:"group"`
	Socket    string    `json:"socket"`
	Role      string    `json:"role"` // the daemon's: "server" or "client"
	State     string    `json:"state"`
	Since     time.Time `json:"since"` // in connected and running: of the connection
	Peer      string    `json:"peer,omitempty"`
	MTU       uint16    `json:"mtu,omitempty"` // bytes; what the front-end said, or what is announced to it
	Offered   Bits      `json:"offered"`       // to the front-end that is there
	Features  Bits      `json:"features"`      // that were acknowledged
	Connects  uint64    `json:"connects"`      // since the start
	LastError *Failure  `json:"last_error,omitempty"`
}

// Failure is the last thing that went wrong at a port.
type Failure struct {
	At    time.Time `json:"at"`
	Error string    `json:"error"`
}

// Memory is what a front-end shares with the daemon.
type Memory struct {
	Port     string    `json:"port"`
	Peer     string    `json:"peer"`
	Slots    int       `json:"slots"` // regions that it may have
	Changed  time.Time `json:"changed"`
	Size     uint64    `json:"size"`     // bytes, all regions
	Resident uint64    `json:"resident"` // bytes of them that are in memory
	ByGuest  Index     `json:"by_guest_address"`
	ByPeer   Index     `json:"by_peer_address"`
	Regions  []Region  `json:"regions"`
}

// Index is how addresses are looked up.
type Index struct {
	Kind  string `json:"kind"`  // "flat", "two-level" or "search"
	Frame uint64 `json:"frame"` // bytes that an entry stands for
	Bytes uint64 `json:"bytes"` // of the index itself
}

// Region is one entry of a front-end's memory table.
type Region struct {
	Guest    Hex       `json:"guest_address"`
	Peer     Hex       `json:"peer_address"` // in the front-end's own space
	Size     uint64    `json:"size"`
	Device   Hex       `json:"device"` // of the file, with Inode
	Inode    uint64    `json:"inode"`
	Offset   int64     `json:"offset"` // in the file
	PageSize uint64    `json:"page_size"`
	Seals    string    `json:"seals"`
	Resident uint64    `json:"resident"`
	Mapped   string    `json:"mapped_at"`
	Since    time.Time `json:"since"`
}

// MAC is an address that a switch has learned.
type MAC struct {
	Group string  `json:"group"`
	MAC   string  `json:"mac"`
	Port  string  `json:"port"`
	Age   float64 `json:"age_seconds"` // since it was last seen
}

// Counts are frames and bytes; in is from the front-end, out is to it.
type Counts struct {
	InFrames  uint64 `json:"in_frames"`
	InBytes   uint64 `json:"in_bytes"`
	OutFrames uint64 `json:"out_frames"`
	OutBytes  uint64 `json:"out_bytes"`
}

// Stats are a port's counts since the start, over all its connections.
type Stats struct {
	Port string `json:"port"`
	Counts
	Pairs []PairStats       `json:"pairs"`
	Drops map[string]uint64 `json:"drops"` // frames, by reason
}

// PairStats are the counts of one queue pair.
type PairStats struct {
	Pair int `json:"pair"`
	Counts
}

// Messages are the last ones that a front-end sent.
type Messages struct {
	Port     string    `json:"port"`
	Peer     string    `json:"peer"`
	Messages []Message `json:"messages"` // oldest first
}

// Message is one of the protocol's.
type Message struct {
	At      time.Time `json:"at"`
	Request string    `json:"request"`
	Detail  string    `json:"detail,omitempty"`
	Result  string    `json:"result,omitempty"`
}
