package memfd

import (
	"errors"
	"fmt"
	"iter"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// NodePolicy says what it means that memory is of a NUMA node.
type NodePolicy int

const (
	// NodeMust: the memory lies on the node, or it is an error: that there is
	// none left, or a *NodeError.
	NodeMust NodePolicy = iota
	// NodeWish: where the node has no memory left, that of others is taken.
	// Arena.Places and Extent.Node tell where it came to lie. Limits and the
	// minimum count it for the node that was wished for.
	NodeWish
)

// NodeError says that the kernel gave memory of another node than it was told
// to. It was not taken.
type NodeError struct {
	VA       memtable.VA
	Page     uint64 // bytes
	Want, Is int
}

func (e *NodeError) Error() string {
	return fmt.Sprintf("the page of %s at %v lies on NUMA node %d and must lie on node %d: "+
		"if that does not matter, set Options.Policy to NodeWish", bytesText(e.Page), e.VA, e.Is, e.Want)
}

// Place tells where memory lies: pages that follow one another here.
type Place struct {
	VA     memtable.VA
	Size   uint64 // bytes
	Page   uint64 // bytes
	Wished int    // NUMA node that it was to be on; AnyNode: none
	Node   int    // that it is on; AnyNode: the kernel does not tell
}

// Places asks the kernel where each page lies that is mapped now, and tells it in
// runs. Memory that is given back meanwhile lies nowhere.
func (a *Arena) Places() iter.Seq[Place] {
	return func(yield func(Place) bool) {
		for _, c := range a.classes {
			var mapped []part
			a.locked(func() { mapped = c.all().runs(func(s *slot) bool { return s.mapped }) })
			for _, p := range mapped {
				for run, err := range nodeRuns(a.k, p.mem(), c.page) {
					if err != nil {
						run.node = AnyNode
					}
					if !yield(Place{p.va().Add(run.off), run.size, c.page, c.node, run.node}) {
						return
					}
				}
			}
		}
	}
}

// nodeRun is a part of some memory that lies on one node.
type nodeRun struct {
	off, size uint64 // bytes
	node      int
}

// nodesAtOnce is how many pages the kernel is asked about in one call.
const nodesAtOnce = 512

// nodeRuns goes through memory in pages of one size. An error stands for the rest
// of it. A kernel without NUMA, or one that does not let us ask, has no nodes to
// tell of, and that is none.
func nodeRuns(k kernel, mem []byte, page uint64) iter.Seq2[nodeRun, error] {
	return func(yield func(nodeRun, error) bool) {
		nodes := make([]int32, nodesAtOnce)
		var run nodeRun
		for off := uint64(0); off < uint64(len(mem)); {
			rest := mem[off:]
			n := min(nodesAtOnce, uint64(len(rest))/page)
			err := k.nodes(rest[:n*page], page, nodes[:n])
			silent := errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM)
			if err != nil && !silent {
				if run.size == 0 || yield(run, nil) {
					yield(nodeRun{off, uint64(len(rest)), AnyNode}, err)
				}
				return
			}
			for _, is := range nodes[:n] {
				node := max(int(is), AnyNode)
				if silent {
					node = AnyNode
				}
				if run.size > 0 && run.node != node {
					if !yield(run, nil) {
						return
					}
					run.size = 0
				}
				if run.size == 0 {
					run = nodeRun{off: off, node: node}
				}
				run.size, off = run.size+page, off+page
			}
		}
		if run.size > 0 {
			yield(run, nil)
		}
	}
}

// inspect finds out where the pages of p came to lie, if that was asked for.
func (a *Arena) inspect(p part) error {
	c := p.c
	if c.node < 0 {
		return nil
	}
	for run, err := range nodeRuns(a.k, p.mem(), c.page) {
		switch {
		case err != nil:
			return fmt.Errorf("the NUMA node of memory: %w", err)
		case run.node == c.node || run.node == AnyNode && !c.wish:
			continue
		case !c.wish:
			return &NodeError{VA: p.va().Add(run.off), Page: c.page, Want: c.node, Is: run.node}
		}
		// An extent of several nodes is of none.
		first, last := int(run.off>>c.shift), int((run.off+run.size-1)>>c.shift)
		i := 0
		a.mark(part{c, p.first + first, last - first + 1}, func(s *slot) {
			s.node = AnyNode
			if at := uint64(first+i) << c.shift; at >= run.off && at+c.unit <= run.off+run.size {
				s.node = run.node
			}
			i++
		})
	}
	return nil
}

// home is the node whose memory is nearest to the caller; AnyNode if that does
// not matter here, or nobody knows.
func (a *Arena) home() int {
	if len(a.o.Nodes) < 2 {
		return AnyNode
	}
	node, err := a.k.home()
	if err != nil {
		return AnyNode
	}
	return node
}
