package memfd

import (
	"context"

	"github.com/vhostd/vhostd/memtable"
)

// Arena is the supply. Heaps, zones and pools take whole extents from it.
type Arena struct {
	o     Options
	users users
}

// New makes an arena.
func New(o Options) (*Arena, error) { panic("soon") }

// growth asks for memory.
type growth struct {
	owner      string // for people
	size       uint64 // bytes, rounded up to whole extents
	page       uint64 // page size in bytes; 0: by preference
	node       int    // AnyNode: any
	shared     bool   // with all mirrors
	contiguous bool   // in IOVA
}

// block is a run of whole extents, contiguous here.
type block struct {
	VA     memtable.VA
	Addr   memtable.IOVA // of its first byte
	Size   uint64        // bytes
	Page   uint64        // bytes
	Node   int
	Extent uint64 // bytes: any part that is aligned to it, from VA on, can be released
}

// grow maps new memory. It reads zero. A *ShortageError or *RefusedError
// leaves everything as it was.
func (a *Arena) grow(ctx context.Context, g growth) (*block, error) { panic("soon") }

// release takes back the extents from va on, of which nothing is in use any
// more. After an error they are quarantined; they are not the caller's either way.
func (a *Arena) release(ctx context.Context, va memtable.VA, size uint64) error { panic("soon") }

// iova gives the device's address of a byte in a block, and for how many bytes
// it goes on without a break (up to the end of what is mapped there, at least
// to the end of the extent).
func (a *Arena) iova(va memtable.VA) (addr memtable.IOVA, n uint64, ok bool) { panic("soon") }
