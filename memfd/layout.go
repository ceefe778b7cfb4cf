package memfd

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Address is an address as a number, for people and for other processes. JSON
// has it as "0x1f000": its numbers end at 2^53 for many readers.
type Address uint64

func (a Address) String() string { return fmt.Sprintf("0x%x", uint64(a)) }

// MarshalText writes it as String does.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *Address) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), "0x")
	n, err := strconv.ParseUint(digits, 16, 64)
	if !ok || err != nil {
		return fmt.Errorf("%.40q is not an address like 0x1f000", text)
	}
	*a = Address(n)
	return nil
}

// Layout is all there is to show of an arena. All sizes are bytes.
type Layout struct {
	Name       string            `json:"name"`
	Settings   Settings          `json:"settings"`
	Nodes      []NodeLayout      `json:"nodes"`
	Classes    []ClassLayout     `json:"classes"` // in order of preference
	Heaps      []HeapLayout      `json:"heaps"`
	Zones      []ZoneLayout      `json:"zones"`
	Pools      []PoolLayout      `json:"pools"`
	Mirrors    []MirrorLayout    `json:"mirrors"`
	Validators []ValidatorLayout `json:"validators"`
	Waste      []WasteLayout     `json:"waste"`
}

// Settings are the Options in force, defaults filled in.
type Settings struct {
	Pages   []PageSetting `json:"pages"` // in order of preference
	Space   uint64        `json:"space"` // reserved for each page size and node
	Base    Address       `json:"base"`  // 0: wherever the kernel put the reservations
	Reserve uint64        `json:"reserve"`
	Linger  time.Duration `json:"linger_ns"` // negative: free memory is never given back
	IOVA    string        `json:"iova"`      // "va" or "pa"
	Reason  string        `json:"iova_reason,omitempty"`
	Bits    int           `json:"address_bits,omitzero"` // of devices; 0: they reach all
	Wish    bool          `json:"node_wish"`             // memory may lie on other nodes than its own
	NoHuge  bool          `json:"no_huge"`
	Legacy  bool          `json:"legacy"` // all was mapped at the start, and nothing comes or goes
}

// PageSetting is a page size.
type PageSetting struct {
	Size    uint64 `json:"size"`
	Limited bool   `json:"limited"` // there is a limit
	Limit   uint64 `json:"limit"`   // of memory in such pages, inclusive
}

// NodeLayout is what a NUMA node may have and has.
type NodeLayout struct {
	Node    int    `json:"node"`    // AnyNode: wherever the kernel puts memory
	Minimum uint64 `json:"minimum"` // mapped from the start and never given back
	Limited bool   `json:"limited"` // there is a limit
	Limit   uint64 `json:"limit"`   // inclusive
	Mapped  uint64 `json:"mapped"`  // what counts for the limit
}

// ClassLayout is the memory of one page size and node, or a piece of external
// memory.
type ClassLayout struct {
	External string        `json:"external,omitempty"` // name of the external memory or of its heap; "": memory of the arena
	Page     uint64        `json:"page"`
	Node     int           `json:"node"`    // AnyNode: wherever the kernel puts it
	Extent   uint64        `json:"extent"`  // the unit of sharing and release
	VA       Address       `json:"va"`      // of the reservation
	Space    uint64        `json:"space"`   // of the reservation
	File     FileLayout    `json:"file"`    // zero: there is none
	Mapped   uint64        `json:"mapped"`  // from the file
	Sum      Amounts       `json:"amounts"` // over Blocks
	Grain    uint64        `json:"grain"`   // what is smaller is told together where it differs: see Mixed
	Blocks   []BlockLayout `json:"blocks"`  // by offset, without what is free
}

// FileLayout is the file of a class.
type FileLayout struct {
	Name string `json:"name"` // that /proc/*/maps shows
	Dev  uint64 `json:"dev"`
	Ino  uint64 `json:"ino"`
	Size uint64 `json:"size"` // from offset 0 to the end of the last page, holes included
	Held uint64 `json:"held"` // in pages
}

// Amounts tell what memory is used for. What is Shared or Pinned is in one of
// the others too.
type Amounts struct {
	Used        uint64 `json:"used,omitzero"`        // somebody has it; of extents that a heap, zone or pool has: what that has lent
	Vacant      uint64 `json:"vacant,omitzero"`      // a heap, zone or pool has it and has not lent it
	Idle        uint64 `json:"idle,omitzero"`        // nobody's: kept for the minimum
	Moving      uint64 `json:"moving,omitzero"`      // arriving, leaving or going
	Quarantined uint64 `json:"quarantined,omitzero"` // nobody's, and could not be taken back
	Lost        uint64 `json:"lost,omitzero"`        // address space that is never used again
	Shared      uint64 `json:"shared,omitzero"`      // with mirrors
	Pinned      uint64 `json:"pinned,omitzero"`      // somebody keeps it where it is in physical memory
}

// Mixed is the state of a block that stands for several, which together are
// smaller than the grain.
const Mixed = "mixed"

// BlockLayout is a run of extents that are alike.
type BlockLayout struct {
	VA      Address `json:"va"`
	Offset  uint64  `json:"offset"` // in the file
	Size    uint64  `json:"size"`
	State   string  `json:"state"` // "live", "idle", "arriving", "leaving", "going", "quarantined", "lost", Mixed
	Owner   string  `json:"owner"` // "": nobody, or several
	Node    int     `json:"node"`  // NUMA node that its pages lie on; AnyNode: several, or nobody knows
	Shared  bool    `json:"shared"`
	Pinned  bool    `json:"pinned"`
	Amounts `json:"amounts"`
}

// HeapLayout is a heap, or what zones are made of.
type HeapLayout struct {
	Owner  string     `json:"owner"` // as blocks have it
	Shared bool       `json:"shared"`
	Page   uint64     `json:"page"` // 0: by preference
	Node   int        `json:"node"` // AnyNode: any
	Stats  HeapStats  `json:"stats"`
	Free   []FreeList `json:"free_lists"` // by size, without those that are empty
}

// FreeList is the vacant memory of a heap in pieces of about one size.
type FreeList struct {
	Least uint64 `json:"least"` // size of a piece, a power of two; all are smaller than twice of it
	Count int    `json:"count"` // pieces
	Bytes uint64 `json:"bytes"`
}

// ZoneLayout is a zone.
type ZoneLayout struct {
	Name string  `json:"name"`
	VA   Address `json:"va"`
	Addr Address `json:"iova"` // of its first byte
	Size uint64  `json:"size"`
	Page uint64  `json:"page"`
}

// PoolLayout is a pool.
type PoolLayout struct {
	Name   string    `json:"name"`
	Buffer uint64    `json:"buffer"` // size of one
	Stride uint64    `json:"stride"` // from one to the next
	Page   uint64    `json:"page"`   // 0: by preference
	Node   int       `json:"node"`   // AnyNode: any
	Stats  PoolStats `json:"stats"`
}

// MirrorLayout is somebody who follows.
type MirrorLayout struct {
	Name     string `json:"name"`    // what it calls itself, or its type in Go
	Private  bool   `json:"private"` // it hears of memory that is not shared too: a process of ours
	Extents  int    `json:"extents"` // that it knows, or is being told of
	Stopping bool   `json:"stopping"`
}

// ValidatorLayout is somebody who has a say in growing.
type ValidatorLayout struct {
	Name string `json:"name"`
	Node int    `json:"node"` // AnyNode: every node
}

// WasteLayout tells what a peer that takes whole tables would be given.
type WasteLayout struct {
	Regions int    `json:"regions"` // that the peer takes at most
	Needed  int    `json:"needed"`  // of the plan
	Used    uint64 `json:"used"`
	Shared  uint64 `json:"shared"`
	Waste   uint64 `json:"waste"`           // shared and not used
	Error   string `json:"error,omitempty"` // why there is no plan
}
