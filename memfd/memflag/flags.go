package memflag

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"

	"github.com/vhostd/vhostd/memfd"
)

// Flags are the switches. The zero Flags are good, as the zero memfd.Options are.
// The tags are kong's.
type Flags struct {
	Min     NodeSizes `name:"mem-min" placeholder:"SIZE|NODE:SIZE,…" help:"Memory that is there from the start and never given back."`
	Limit   NodeSizes `name:"mem-limit" placeholder:"SIZE|NODE:SIZE,…" help:"What memory may grow to; that much is allowed."`
	Pages   Pages     `name:"page-sizes" placeholder:"SIZE[:LIMIT],…" help:"Page sizes in order of preference, and how much may be of each. Default: huge pages, largest first, then the system's."`
	NUMA    Nodes     `name:"numa" placeholder:"NODE,…" help:"NUMA nodes to take memory from. Default: wherever the kernel puts it."`
	Policy  Policy    `name:"numa-policy" placeholder:"must|wish" help:"Whether memory must lie on its NUMA node, or may lie on another where that has none left. Default: must."`
	IOVA    IOVA      `name:"iova-mode" placeholder:"auto|va|pa" help:"Which addresses devices are told: those of this process, physical ones, or whichever the machine allows. Default: those of this process."`
	Bits    int       `name:"address-bits" placeholder:"BITS" help:"Address bits of devices: memory that they cannot reach is refused. Default: they reach all."`
	NoHuge  bool      `name:"no-huge" help:"The system's pages only."`
	Legacy  bool      `name:"legacy-mem" help:"Map everything at the start, what --mem-min says or all free huge pages, in the order of its physical addresses; nothing grows or shrinks."`
	Base    Address   `name:"base-virtaddr" placeholder:"0x…" help:"Where memory begins in the address space. Default: wherever the kernel puts it."`
	Space   Size      `name:"mem-space" placeholder:"SIZE" help:"Address space to reserve for each page size and node. Default: 1G, or what --mem-min and --mem-limit need."`
	Inspect string    `name:"inspect" placeholder:"SOCKET" help:"Answer vhostd mem --attach at this socket."`
}

// Register has fs read the switches into f.
func (f *Flags) Register(fs *flag.FlagSet) {
	fs.TextVar(&f.Min, "mem-min", f.Min, "memory that is there from the start and never given back: `SIZE or NODE:SIZE,…`")
	fs.TextVar(&f.Limit, "mem-limit", f.Limit, "what memory may grow to, inclusive: `SIZE or NODE:SIZE,…`")
	fs.TextVar(&f.Pages, "page-sizes", f.Pages, "page sizes in order of preference: `SIZE[:LIMIT],…`")
	fs.TextVar(&f.NUMA, "numa", f.NUMA, "NUMA nodes to take memory from: `NODE,…`")
	fs.TextVar(&f.Policy, "numa-policy", f.Policy, "whether memory must lie on its NUMA node: `must or wish`")
	fs.TextVar(&f.IOVA, "iova-mode", f.IOVA, "which addresses devices are told: `auto, va or pa`")
	fs.IntVar(&f.Bits, "address-bits", f.Bits, "address bits of devices, `1 to 64`: memory that they cannot reach is refused")
	fs.BoolVar(&f.NoHuge, "no-huge", f.NoHuge, "the system's pages only")
	fs.BoolVar(&f.Legacy, "legacy-mem", f.Legacy, "map everything at the start, in the order of its physical addresses")
	fs.TextVar(&f.Base, "base-virtaddr", f.Base, "where memory begins in the address space: `0x…`")
	fs.TextVar(&f.Space, "mem-space", f.Space, "address space to reserve for each page size and node: `SIZE`")
	fs.StringVar(&f.Inspect, "inspect", f.Inspect, "answer vhostd mem --attach at this `socket`")
}

// ConflictError says that two switches contradict each other.
type ConflictError struct {
	First, Second string // as they are written: "--no-huge"
	Reason        string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s and %s: %s", e.First, e.Second, e.Reason)
}

// Options gives what the switches say. Errors are *ConflictError, all that there
// are, joined; or say why physical addresses cannot be had.
func (f *Flags) Options() (memfd.Options, error) {
	o := memfd.Options{NoHuge: f.NoHuge, Base: uint64(f.Base), Space: uint64(f.Space), AddrBits: f.Bits, Legacy: f.Legacy}
	err := errors.Join(f.pages(&o), f.nodes(&o), f.amounts(&o), f.legacy())
	if err == nil {
		err = f.addresses(&o)
	}
	if err != nil {
		return memfd.Options{}, err
	}
	return o, nil
}

// pages fills in page sizes and their limits.
func (f *Flags) pages(o *memfd.Options) error {
	if f.NoHuge && len(f.Pages) > 0 {
		return &ConflictError{"--no-huge", "--page-sizes", "the first chooses the system's pages, whatever the second says"}
	}
	for _, p := range f.Pages {
		if p.Limited {
			if o.PageLimit == nil {
				o.PageLimit = make(map[uint64]uint64)
			}
			o.PageLimit[uint64(p.Size)] = uint64(p.Limit)
		}
		if !p.Limited || p.Limit > 0 {
			o.Pages = append(o.Pages, uint64(p.Size))
		}
	}
	return nil
}

// nodes fills in the nodes, and what it means that memory is of one.
func (f *Flags) nodes(o *memfd.Options) error {
	if err := f.nodesOf(o); err != nil {
		return err
	}
	if f.Policy != "" && o.Nodes == nil {
		return &ConflictError{"--numa-policy", "--numa", "without nodes there is none that memory must lie on: name some"}
	}
	if f.Policy == wish {
		o.Policy = memfd.NodeWish
	}
	return nil
}

// nodesOf takes the nodes of --numa, or those that have a size.
func (f *Flags) nodesOf(o *memfd.Options) error {
	o.Nodes = f.NUMA
	if o.Nodes != nil {
		return nil
	}
	named := make(map[int]bool)
	for _, sizes := range []NodeSizes{f.Min, f.Limit} {
		for node := range sizes {
			named[node] = true
		}
	}
	if named[memfd.AnyNode] && len(named) > 1 {
		return &ConflictError{"--mem-min", "--mem-limit", "one is for NUMA nodes and the other for the machine: give both a node, or none"}
	}
	if len(named) > 0 && !named[memfd.AnyNode] {
		o.Nodes = slices.Sorted(maps.Keys(named))
	}
	return nil
}

// amounts fills in minimum and limit, and the address space they need.
func (f *Flags) amounts(o *memfd.Options) (err error) {
	fill := func(name string, sizes NodeSizes) map[int]uint64 {
		var all map[int]uint64
		for node, size := range sizes {
			switch {
			case f.NUMA != nil && node == memfd.AnyNode && len(f.NUMA) == 1:
				node = f.NUMA[0]
			case f.NUMA != nil && node == memfd.AnyNode:
				err = errors.Join(err, &ConflictError{name, "--numa", "say how much is of which node: 0:64M,1:32M"})
			case f.NUMA != nil && !slices.Contains(f.NUMA, node):
				err = errors.Join(err, &ConflictError{name, "--numa", fmt.Sprintf("node %d is in the first and not in the second", node)})
			}
			if all == nil {
				all = make(map[int]uint64)
			}
			all[node] = uint64(size)
		}
		return all
	}
	o.Minimum, o.Limit = fill("--mem-min", f.Min), fill("--mem-limit", f.Limit)
	for node, least := range o.Minimum {
		if limit, ok := o.Limit[node]; ok && least > limit {
			err = errors.Join(err, &ConflictError{"--mem-min", "--mem-limit", fmt.Sprintf("%v is above %v", Size(least), Size(limit))})
		}
		if o.Space != 0 && least > o.Space {
			err = errors.Join(err, &ConflictError{"--mem-min", "--mem-space", fmt.Sprintf("%v need more than %v of address space", Size(least), Size(o.Space))})
		}
	}
	if o.Space == 0 {
		for _, sizes := range []map[int]uint64{o.Minimum, o.Limit} {
			for _, size := range sizes {
				if size > usualSpace {
					o.Space = max(o.Space, min(size, mostSpace))
				}
			}
		}
	}
	return err
}

// legacy tests what legacy mode has no room for.
func (f *Flags) legacy() (err error) {
	if !f.Legacy {
		return nil
	}
	refuse := func(is bool, other, reason string) {
		if is {
			err = errors.Join(err, &ConflictError{"--legacy-mem", other, reason})
		}
	}
	refuse(f.NoHuge, "--no-huge", "the system's pages have no physical order that is worth having")
	refuse(f.Limit != nil, "--mem-limit", "nothing grows in legacy mode: --mem-min says how much there is")
	refuse(f.Space != 0, "--mem-space", "legacy mode reserves what its pages need")
	refuse(slices.ContainsFunc(f.Pages, func(p Page) bool { return p.Limited }), "a limit in --page-sizes",
		"nothing grows in legacy mode: --mem-min says how much there is")
	return err
}

// What is reserved without being asked for: a limit may be as good as none.
const (
	usualSpace = 1 << 30 // by zero Options
	mostSpace  = 1 << 40
)
