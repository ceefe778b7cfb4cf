package memtable

import "context"

// Buf is lent memory: what pools give out and what driver queues take. Who
// holds it owns it, and gives it back once.
type Buf struct {
	VA    VA     // here
	Addr  IOVA   // for the device, or for the peer
	Len   uint32 // bytes used
	Cap   uint32 // bytes there are
	Token uint64 // of whoever lent it
}

// Extent is the unit in which memory is shared and released: contiguous here,
// for devices, and in one file. It never changes shape while announced.
type Extent struct {
	VA     VA
	Addr   IOVA
	Size   uint64 // bytes
	File   FileID
	FD     int    // lent, for the length of the call; -1: no file, cannot be sent to a peer
	Offset int64  // in the file, bytes
	Page   uint64 // page size in bytes
	Node   int    // NUMA node; -1: unknown
	Tag    string // what the memory is for: only what is tagged as shared is exported
	Pinned bool   // its physical place cannot change: somebody who follows keeps it there (see Pinner)
}

// Pinner is an optional ability of a Mirror: what has arrived there cannot move
// in physical memory until it has left, because a device has it mapped.
type Pinner interface{ Pins() bool }

// IOVAMode says which addresses devices and peers are told.
type IOVAMode int

const (
	// IOVAAsVA: a device's address is the address in this process. It needs
	// an IOMMU, or a peer that maps what it is told (vhost-user does).
	IOVAAsVA IOVAMode = iota
	// IOVAAsPA: a device's address is the physical one, as a Resolver tells it.
	IOVAAsPA
)

// NoIOVA is the address of memory that no device can be told of, because nobody
// knows where it is for one.
const NoIOVA = ^IOVA(0)

// Source has memory to share: an arena, a test.
type Source interface {
	// Follow announces all extents there are to m, and from then on every
	// change, until stop. stop takes all of them back from m and returns when
	// m has let go. Follow returns when m has the first extents; if m refuses
	// them, it is not followed, and the error is m's.
	Follow(ctx context.Context, m Mirror) (stop func(ctx context.Context) error, err error)
}

// Mirror must hear which memory there is: a front-end, a device's IOMMU. Its
// methods are not called at the same time. No lock of the source is held over
// them, and they must not allocate from it.
type Mirror interface {
	// Arrive tells of new extents. When it returns nil the other side can
	// reach all of them; on error none, and they are not handed out: this is
	// the mirror's veto.
	Arrive(ctx context.Context, e []Extent) error
	// Leave takes extents back, of which nothing is in use any more. When it
	// returns nil the other side cannot reach them. There is no veto: after
	// an error the source keeps them mapped, unused and shown.
	Leave(ctx context.Context, e []Extent) error
}

// Resolver knows physical addresses.
type Resolver interface {
	// Resolve gives the physical address of v and how many of the n bytes
	// there are physically contiguous.
	Resolve(v VA, n uint64) (pa PA, length uint64, err error)
}
