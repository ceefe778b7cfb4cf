package memtable

import "fmt"

// The kinds of address. They are distinct types so that the compiler finds who
// mixes them.
type (
	// GPA is a guest physical address: what a descriptor carries without an
	// IOMMU, and what the dirty log counts in.
	GPA uint64
	// IOVA is what a descriptor carries when that is not a GPA.
	IOVA uint64
	// PA is a host physical address.
	PA uint64
	// UVA is an address in the peer's own address space (vhost-user names
	// rings by it). It is looked up, and never ours to dereference.
	UVA uint64
)

// Address is any of the kinds that a [Table] can be keyed by.
type Address interface{ GPA | IOVA | PA | UVA }

// kindOf names the address type in errors.
func kindOf[A Address]() string {
	switch any(A(0)).(type) {
	case GPA:
		return "GPA"
	case IOVA:
		return "IOVA"
	case PA:
		return "PA"
	default:
		return "UVA"
	}
}

// RangeError says that a range of addresses is not, or not wholly, memory that
// the peer shares.
type RangeError struct {
	Kind   string // of address: "GPA", "IOVA", "PA", "UVA"
	Addr   uint64
	Size   uint64 // bytes
	Reason string
}

func (e *RangeError) Error() string {
	return fmt.Sprintf("%s 0x%x, %d bytes: %s", e.Kind, e.Addr, e.Size, e.Reason)
}

// The reasons of a RangeError.
const (
	reasonNowhere = "starts in no shared region"
	reasonEnd     = "runs past the end of a shared region into a hole"
	reasonWrap    = "wraps around at 2^64"
)
