package memtable

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
)

// Region is a range of addresses and the memory behind it: Size bytes from Addr
// on lie in Mem from Skip on.
type Region[A Address] struct {
	Addr A
	Size uint64
	Mem  *Mapping
	Skip uint64
}

// What can be wrong with a region, for [errors.Is].
var (
	ErrOverlap  = errors.New("overlaps another region")
	ErrNoRegion = errors.New("no such region")
)

// RegionError says which region a table refused, and why.
type RegionError struct {
	Kind string // of address
	Addr uint64
	Size uint64 // bytes
	Err  error  // ErrOverlap, ErrNoRegion, or a plain error
}

func (e *RegionError) Error() string {
	return fmt.Sprintf("region at %s 0x%x, %d bytes: %v", e.Kind, e.Addr, e.Size, e.Err)
}

func (e *RegionError) Unwrap() error { return e.Err }

// Options says how a table is built.
type Options struct {
	IndexBytes int // bound on index memory; 0: 1 MiB; negative: no index
}

// defaultIndexBytes holds a flat index of 131,071 frames: 255 GiB in frames of
// 2 MiB.
const defaultIndexBytes = 1 << 20

// Table is an immutable snapshot of regions, sorted by address, with an index
// for look-ups. It is made by [New] and [Table.With], and safe for any number
// of readers. It references its mappings but does not own them.
type Table[A Address] struct {
	// index is not generic, so that its code exists once; it comes first, so
	// that a table's address is its index's.
	index

	regions []Region[A]
	options Options

	byHost  []hostRange // for Reverse, made at its first call
	reverse sync.Once
}

// New makes a table of regions, in any order. It refuses, with a
// *[RegionError], regions that are empty, overlap, pass 2^64 (ending there is
// fine) or do not lie in their mapping. regions stays the caller's.
func New[A Address](regions []Region[A], o Options) (*Table[A], error) {
	sorted := ordered(regions)
	for _, r := range sorted {
		if err := r.check(); err != nil {
			return nil, err
		}
	}
	return build(sorted, o, nil, nil)
}

// With makes a table that lacks the regions of remove and has those of add.
// A region to remove is found by Addr and Size. What is in neither keeps its
// mapping, and what the index can keep of its memory is shared between both
// tables. t stays as it is. Errors are a *[RegionError].
func (t *Table[A]) With(add, remove []Region[A]) (*Table[A], error) {
	for _, r := range add {
		if err := r.check(); err != nil {
			return nil, err
		}
	}
	kept, err := without(t.regions, remove)
	if err != nil {
		return nil, err
	}
	// Both parts are small beside a large table, so merge instead of sorting
	// all of it.
	fresh := ordered(add)
	merged := make([]Region[A], 0, len(kept)+len(fresh))
	for _, r := range kept {
		for len(fresh) > 0 && fresh[0].Addr <= r.Addr {
			merged, fresh = append(merged, fresh[0]), fresh[1:]
		}
		merged = append(merged, r)
	}
	merged = append(merged, fresh...)

	changed := make([]extent, 0, len(add)+len(remove))
	for _, some := range [...][]Region[A]{add, remove} {
		for _, r := range some {
			changed = append(changed, extent{uint64(r.Addr), uint64(r.Addr) + (r.Size - 1)})
		}
	}
	return build(merged, t.options, &t.index, changed)
}

// without copies regions, which are sorted, and leaves out those of remove.
func without[A Address](regions, remove []Region[A]) ([]Region[A], error) {
	kept := make([]Region[A], 0, len(regions))
	remove = ordered(remove)
	for _, r := range regions {
		if len(remove) > 0 && remove[0].Addr == r.Addr && remove[0].Size == r.Size {
			remove = remove[1:]
			continue
		}
		if len(remove) > 0 && remove[0].Addr <= r.Addr {
			break // it would have come before, or differs in size
		}
		kept = append(kept, r)
	}
	if len(remove) > 0 {
		return nil, remove[0].fail(ErrNoRegion)
	}
	return kept, nil
}

// build makes the table of sorted, checked regions. old and changed, if given,
// are the index to share with and what differs from it.
func build[A Address](sorted []Region[A], o Options, old *index, changed []extent) (*Table[A], error) {
	spans := make([]span, len(sorted))
	for i, r := range sorted {
		// Subtracting is safe: the order says that r does not begin before.
		if i > 0 && uint64(r.Addr-sorted[i-1].Addr) < sorted[i-1].Size {
			return nil, r.fail(ErrOverlap)
		}
		spans[i] = span{uint64(r.Addr), r.Size, r.Mem.VA().Add(r.Skip), r.Mem}
	}
	bound := uint64(max(o.IndexBytes, 0))
	if o.IndexBytes == 0 {
		bound = defaultIndexBytes
	}
	return &Table[A]{regions: sorted, options: o, index: makeIndex(spans, bound, old, changed)}, nil
}

// Regions gives the regions in the order of their addresses. The slice is the
// table's: do not change it.
func (t *Table[A]) Regions() []Region[A] { return t.regions }

// check tests one region by itself.
func (r Region[A]) check() error {
	switch {
	case r.Size == 0:
		return r.fail(errors.New("is empty"))
	case r.Size-1 > math.MaxUint64-uint64(r.Addr):
		return r.fail(errors.New("passes the end of the address space at 2^64"))
	case r.Mem == nil:
		return r.fail(errors.New("has no mapping"))
	case r.Size > r.Mem.Size() || r.Skip > r.Mem.Size()-r.Size:
		return r.fail(fmt.Errorf("skips %d bytes and does not fit its mapping of %d", r.Skip, r.Mem.Size()))
	}
	return nil
}

func (r Region[A]) fail(err error) error {
	return &RegionError{Kind: kindOf[A](), Addr: uint64(r.Addr), Size: r.Size, Err: err}
}

// ordered gives a copy of regions by address.
func ordered[A Address](regions []Region[A]) []Region[A] {
	sorted := slices.Clone(regions)
	slices.SortFunc(sorted, byAddr[A])
	return sorted
}

func byAddr[A Address](a, b Region[A]) int { return cmp.Compare(a.Addr, b.Addr) }
