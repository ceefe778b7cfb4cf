package memfd

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// available tests whether size bytes of system pages can be had. The kernel
// would promise them and call the OOM killer later; of huge pages it gives what
// there is and refuses the rest.
func (a *Arena) available(c *class, size uint64) error {
	if c.huge {
		return nil
	}
	node := c.node
	if c.wish {
		node = AnyNode
	}
	have, where := a.machineRoom(node)
	room, group, err := cgroupRoom(a.k)
	if err != nil {
		return err
	}
	if room < have {
		have, where = room, "cgroup "+group
	}
	have -= min(have, a.o.Reserve)
	if size <= have {
		return nil
	}
	return &ShortageError{What: "memory of " + where, Node: c.node, Want: size, Have: have,
		Advice: fmt.Sprintf("free some, or allow more: %s stay untouched (Options.Reserve)", bytesText(a.o.Reserve))}
}

// machineRoom gives the bytes that the machine, or one node of it, can spare.
// Where nobody tells, there is no bound.
func (a *Arena) machineRoom(node int) (n uint64, where string) {
	path, key, where := "/proc/meminfo", "MemAvailable", "the machine"
	if node >= 0 {
		// A node does not tell what could be made free.
		path, key = fmt.Sprintf("/sys/devices/system/node/node%d/meminfo", node), "MemFree"
		where = "the node"
	}
	text, err := a.k.read(path)
	if err != nil {
		return 1 << 62, where
	}
	n, ok := field(text, key)
	if !ok {
		return 1 << 62, where
	}
	if node >= 0 {
		for _, key := range []string{"Inactive(file)", "SReclaimable"} {
			more, _ := field(text, key)
			n += more
		}
	}
	return n, where
}

// shortOfPages says why fallocate refused.
func (a *Arena) shortOfPages(c *class, size uint64, err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM):
	case c.node >= 0 && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL)):
		return fmt.Errorf("taking memory from NUMA node %d: %w: the node may not be ours to use "+
			"(cpuset.mems), or set_mempolicy is not allowed: leave Options.Nodes nil", c.node, err)
	default:
		return err
	}
	short := &ShortageError{What: "memory", Node: c.node, Want: size, Err: err, Advice: "free some"}
	if c.huge {
		short.What = "huge pages of " + bytesText(c.page)
		short.Have = hugeFree(a.k, c.page, c.node)
		short.Advice = fmt.Sprintf("reserve more (%s/hugepages-%dkB/nr_hugepages), and see that the cgroup "+
			"allows them (hugetlb.*.max)", hugeDir, c.page>>10)
	}
	return short
}
