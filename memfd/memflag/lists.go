package memflag

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vhostd/vhostd/memfd"
)

// NodeSizes are sizes by NUMA node: "0:64M,1:32M", or "64M" for a program that
// does not ask for nodes, or for one.
type NodeSizes map[int]Size

func (n NodeSizes) String() string {
	var all []string
	for _, node := range slices.Sorted(maps.Keys(n)) {
		if node == memfd.AnyNode {
			all = append(all, n[node].String())
			continue
		}
		all = append(all, fmt.Sprintf("%d:%v", node, n[node]))
	}
	return strings.Join(all, ",")
}

// MarshalText writes the list.
func (n NodeSizes) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads a list. A node named twice, or a size with and one without
// a node, is an error.
func (n *NodeSizes) UnmarshalText(text []byte) error {
	all := make(NodeSizes)
	for entry := range strings.SplitSeq(string(text), ",") {
		number, size, named := strings.Cut(entry, ":")
		node := memfd.AnyNode
		if !named {
			size = entry
		} else if err := parseNode(number, &node); err != nil {
			return err
		}
		var s Size
		if err := s.UnmarshalText([]byte(size)); err != nil {
			return err
		}
		if _, ok := all[node]; ok {
			return fmt.Errorf("%.60q: there are two sizes for one node: use 0:64M,1:32M", text)
		}
		all[node] = s
	}
	if _, ok := all[memfd.AnyNode]; ok && len(all) > 1 {
		return fmt.Errorf("%.60q: some sizes have a node and one has none: use 0:64M,1:32M", text)
	}
	*n = all
	return nil
}

// Nodes are NUMA nodes, as "0,1".
type Nodes []int

func (n Nodes) String() string {
	all := make([]string, len(n))
	for i, node := range n {
		all[i] = strconv.Itoa(node)
	}
	return strings.Join(all, ",")
}

// MarshalText writes the list.
func (n Nodes) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads a list.
func (n *Nodes) UnmarshalText(text []byte) error {
	var all Nodes
	if len(text) > 0 {
		for number := range strings.SplitSeq(string(text), ",") {
			var node int
			if err := parseNode(number, &node); err != nil {
				return err
			}
			if slices.Contains(all, node) {
				return fmt.Errorf("node %d is named twice", node)
			}
			all = append(all, node)
		}
	}
	*n = all
	return nil
}

// maxNode is what the kernel can be built for.
const maxNode = 1023

func parseNode(text string, to *int) error {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n > maxNode {
		return fmt.Errorf("%.40q is no number of a NUMA node", text)
	}
	*to = int(n)
	return nil
}

// Policy says whether memory must lie on its NUMA node, as a word: see
// memfd.NodePolicy.
type Policy string

const (
	must Policy = "must"
	wish Policy = "wish"
)

// MarshalText writes the word.
func (p Policy) MarshalText() ([]byte, error) { return []byte(p), nil }

// UnmarshalText reads the word.
func (p *Policy) UnmarshalText(text []byte) error {
	switch one := Policy(text); one {
	case "", must, wish:
		*p = one
		return nil
	}
	return fmt.Errorf("%.40q is no policy for NUMA nodes: use must or wish", text)
}

// Page is a page size, and how much memory may be of such pages.
type Page struct {
	Size    Size
	Limited bool
	Limit   Size // inclusive; 0: none at all
}

// Pages are page sizes, in order of preference: "2M,4K", or "2M:64M" with a
// limit. A limit of 0 forbids a size and chooses none.
type Pages []Page

func (p Pages) String() string {
	all := make([]string, len(p))
	for i, one := range p {
		all[i] = one.Size.String()
		if one.Limited {
			all[i] += ":" + one.Limit.String()
		}
	}
	return strings.Join(all, ",")
}

// MarshalText writes the list.
func (p Pages) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText adds to the list, so that the switch may be given several times.
// A page size is a power of two, and a limit a multiple of it.
func (p *Pages) UnmarshalText(text []byte) error {
	all := slices.Clone(*p)
	for entry := range strings.SplitSeq(string(text), ",") {
		var one Page
		size, limit, limited := strings.Cut(entry, ":")
		if err := one.Size.UnmarshalText([]byte(size)); err != nil {
			return err
		}
		if one.Size == 0 || one.Size&(one.Size-1) != 0 {
			return fmt.Errorf("pages of %v: a page size is a power of two", one.Size)
		}
		if limited {
			one.Limited = true
			if err := one.Limit.UnmarshalText([]byte(limit)); err != nil {
				return err
			}
			if one.Limit%one.Size != 0 {
				return fmt.Errorf("%.40q: the limit is no multiple of the page size", entry)
			}
		}
		if slices.ContainsFunc(all, func(o Page) bool { return o.Size == one.Size }) {
			return fmt.Errorf("pages of %v are named twice", one.Size)
		}
		all = append(all, one)
	}
	*p = all
	return nil
}

// Address is where reservations begin, as "0x100000000".
type Address uint64

// MarshalText writes the address.
func (a Address) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "0x%x", uint64(a)), nil }

// UnmarshalText reads an address, hexadecimal with or without 0x.
func (a *Address) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(string(text), "0x"), 16, 64)
	if err != nil {
		return fmt.Errorf("%.40q is no address like 0x100000000", text)
	}
	*a = Address(n)
	return nil
}
