package memfd

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/vhostd/vhostd/memtable"
)

// IOVAMode says which addresses devices and peers are told.
type IOVAMode = memtable.IOVAMode

// The modes; with IOVAAsPA physical addresses are what Options.Resolver tells.
const (
	IOVAAsVA = memtable.IOVAAsVA
	IOVAAsPA = memtable.IOVAAsPA
)

// AnyNode is the node of memory that may lie wherever the kernel puts it.
const AnyNode = -1

// The tags of extents.
const (
	Shared  = "shared"  // announced to mirrors
	Private = "private" // never leaves the process
)

// Options says what an arena may use. The zero Options are good: huge pages
// where there are any, system pages where not, on whatever node.
type Options struct {
	Name       string            // of the files, for people who read /proc/*/maps; "": "memfd"
	Space      uint64            // address space reserved for each page size and node, in bytes, but 2^24 extents at most; 0: 1 GiB
	Base       uint64            // where reservations begin, one after another in the order of Pages and Nodes; 0: wherever the kernel puts them
	Pages      []uint64          // page sizes in bytes, in order of preference; nil: all huge pages there are, largest first, then the system's
	Nodes      []int             // NUMA nodes; nil: AnyNode
	Policy     NodePolicy        // whether memory must lie on its node
	Minimum    map[int]uint64    // by node: bytes that are mapped from the start and never given back
	Limit      map[int]uint64    // by node: bytes that may be mapped, inclusive; no entry: no limit
	PageLimit  map[uint64]uint64 // by page size: bytes that may be mapped of such pages, on all nodes, inclusive; no entry: no limit
	Extent     uint64            // in what units system pages are mapped and shared, in bytes; 0: 2 MiB
	Linger     time.Duration     // free memory stays this long before it is given back; 0: 1 s; negative: it is never given back
	Reserve    uint64            // bytes that must stay available to the machine and to our cgroups when system pages grow; 0: 32 MiB
	IOVA       IOVAMode          // what devices are told
	IOVAReason string            // why that is so, for people (Arena.Layout)
	Resolver   memtable.Resolver // for IOVAAsPA: what is not pinned may be elsewhere later (see Arena.Recheck)
	AddrBits   int               // of devices: memory at addresses of more bits is refused with a *MaskError; 0: they reach all
	Domain     *memtable.Domain  // workers that look up addresses: they are waited for before memory is unmapped; nil: none
	NoHuge     bool              // system pages only

	// Legacy maps everything at the start, what Minimum says or all huge pages
	// that are free, in the order of its physical addresses, with a hole
	// wherever that is broken: what is contiguous here is so for every device.
	// Nothing is mapped later, nothing given back before Close, and nobody has
	// a say in it. Space does not matter. It needs a Resolver, who needs
	// CAP_SYS_ADMIN.
	Legacy bool
}

const (
	defaultSpace   = 1 << 30
	defaultExtent  = 2 << 20
	defaultReserve = 32 << 20
	defaultLinger  = time.Second
)

// fill puts the defaults in, huge being the page sizes that the kernel has.
func (o Options) fill(huge []uint64) (Options, error) {
	system := uint64(os.Getpagesize())
	if o.Name == "" {
		o.Name = "memfd"
	}
	if o.Space == 0 {
		o.Space = defaultSpace
	}
	if o.Extent == 0 {
		o.Extent = max(defaultExtent, system)
	}
	if o.IOVA == IOVAAsPA {
		o.Extent = system // neighbours are seldom neighbours in physical memory
	}
	if o.Reserve == 0 {
		o.Reserve = defaultReserve
	}
	if o.Linger == 0 {
		o.Linger = defaultLinger
	}
	switch {
	case o.NoHuge && o.Pages == nil:
		o.Pages = []uint64{system}
	case o.Legacy && o.Pages == nil:
		o.Pages = slices.Clone(huge)
	case o.Pages == nil:
		o.Pages = append(slices.Clone(huge), system)
	}
	if o.Nodes == nil {
		o.Nodes = []int{AnyNode}
	}
	return o, o.check(system, huge)
}

// check tests what a person may have got wrong.
func (o Options) check(system uint64, huge []uint64) error {
	if err := o.checkLegacy(system); err != nil {
		return err
	}
	switch {
	case o.NoHuge && !slices.Equal(o.Pages, []uint64{system}):
		return fmt.Errorf("memfd: NoHuge with pages of %v bytes: leave one of both out", o.Pages)
	case o.IOVA == IOVAAsPA && o.Resolver == nil:
		return fmt.Errorf("memfd: physical addresses need a Resolver")
	case o.Space > most:
		return fmt.Errorf("memfd: no machine has %s of address space: set Space to less", bytesText(o.Space))
	case o.AddrBits < 0 || o.AddrBits > 64:
		return fmt.Errorf("memfd: devices of %d address bits: use 1 to 64, or 0 for all", o.AddrBits)
	case o.Extent < system || o.Extent&(o.Extent-1) != 0:
		return fmt.Errorf("memfd: extents of %d bytes: use a power of two that is %d or more", o.Extent, system)
	case len(o.Pages) == 0 || len(o.Nodes) == 0:
		return fmt.Errorf("memfd: no page size or no node to take memory from: leave Pages and Nodes nil for all there are")
	}
	for i, p := range o.Pages {
		if p != system && !slices.Contains(huge, p) {
			return fmt.Errorf("memfd: the kernel has no pages of %s: it has %s and huge pages of %v bytes "+
				"(1 GiB pages may need hugepagesz=1G on the kernel command line)", bytesText(p), bytesText(system), huge)
		}
		if slices.Contains(o.Pages[:i], p) {
			return fmt.Errorf("memfd: pages of %s are named twice", bytesText(p))
		}
	}
	for i, n := range o.Nodes {
		if n < AnyNode || slices.Contains(o.Nodes[:i], n) {
			return fmt.Errorf("memfd: NUMA node %d does not exist or is named twice", n)
		}
	}
	for node, size := range o.Minimum {
		if limit, ok := o.Limit[node]; ok && size > limit {
			return fmt.Errorf("memfd: node %d: the minimum of %s is above the limit of %s", node, bytesText(size), bytesText(limit))
		}
	}
	for page, limit := range o.PageLimit {
		if limit > 0 && !slices.Contains(o.Pages, page) {
			return fmt.Errorf("memfd: there is a limit for pages of %s, which are not in Pages (%v)", bytesText(page), o.Pages)
		}
	}
	for _, of := range []map[int]uint64{o.Minimum, o.Limit} {
		for node := range of {
			if !slices.Contains(o.Nodes, node) {
				return fmt.Errorf("memfd: there is a minimum or a limit for node %d, which is not in Nodes (%v)", node, o.Nodes)
			}
		}
	}
	return nil
}
