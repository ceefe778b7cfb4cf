package memfd

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const mounts = `22 1 0:20 / / rw - ext4 /dev/vda rw
30 22 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
31 22 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:7 - cgroup cgroup rw,memory
32 22 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct
`

func TestTheTightestCgroupUpTheTreeDecides(t *testing.T) {
	const plenty = "MemAvailable: 100000000 kB\n"
	for name, test := range map[string]struct {
		files map[string]string
		have  uint64 // less the reserve of 1 MiB
		where string
	}{
		"no cgroups": {map[string]string{"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 9216 kB\n"}, 8 << 20, "the machine"},
		"v2, a parent": {map[string]string{
			"/proc/meminfo": plenty, "/proc/self/cgroup": "0::/a/b\n", "/proc/self/mountinfo": mounts,
			"/sys/fs/cgroup/unified/a/b/memory.max":     "max\n",
			"/sys/fs/cgroup/unified/a/b/memory.current": "1\n",
			"/sys/fs/cgroup/unified/a/memory.max":       "33554432\n",
			"/sys/fs/cgroup/unified/a/memory.current":   "20971520\n",
			"/sys/fs/cgroup/unified/a/memory.stat":      "anon 1\ninactive_file 4194304\n",
		}, 15 << 20, "cgroup /a"},
		"v2, high": {map[string]string{
			"/proc/meminfo": plenty, "/proc/self/cgroup": "0::/a\n", "/proc/self/mountinfo": mounts,
			"/sys/fs/cgroup/unified/a/memory.max":     "33554432\n",
			"/sys/fs/cgroup/unified/a/memory.high":    "16777216\n",
			"/sys/fs/cgroup/unified/a/memory.current": "1048576\n",
		}, 14 << 20, "cgroup /a"},
		"v1 beside v2": {map[string]string{
			"/proc/meminfo": plenty, "/proc/self/mountinfo": mounts,
			"/proc/self/cgroup": "4:memory:/x/y\n5:cpu,cpuacct:/x\n0::/\n",
			"/sys/fs/cgroup/memory/x/y/memory.limit_in_bytes": "9223372036854771712\n",
			"/sys/fs/cgroup/memory/x/y/memory.usage_in_bytes": "5000000\n",
			"/sys/fs/cgroup/memory/x/memory.limit_in_bytes":   "8388608\n",
			"/sys/fs/cgroup/memory/x/memory.usage_in_bytes":   "5242880\n",
			"/sys/fs/cgroup/memory/x/memory.stat":             "inactive_file 3\ntotal_inactive_file 1048576\n",
		}, 3 << 20, "cgroup /x"},
		"in a container": {map[string]string{
			"/proc/meminfo": plenty, "/proc/self/cgroup": "0::/docker/c1/inner\n",
			"/proc/self/mountinfo":                 "30 22 0:26 /docker/c1 /sys/fs/cg\\040roup ro - cgroup2 cgroup2 rw\n",
			"/sys/fs/cg roup/inner/memory.max":     "4194304\n",
			"/sys/fs/cg roup/inner/memory.current": "0\n",
		}, 3 << 20, "cgroup /inner"},
		"over its limit": {map[string]string{
			"/proc/meminfo": plenty, "/proc/self/cgroup": "0::/a\n", "/proc/self/mountinfo": mounts,
			"/sys/fs/cgroup/unified/a/memory.max":     "1048576\n",
			"/sys/fs/cgroup/unified/a/memory.current": "2097152\n",
		}, 0, "cgroup /a"},
	} {
		t.Run(name, func(t *testing.T) {
			k := &saboteur{files: test.files}
			o := small()
			o.Reserve = 1 << 20
			a := opened(t, k, o)
			c := a.classes[0]
			if err := a.available(c, test.have); err != nil {
				t.Errorf("what there is: %v", err)
			}
			short, ok := errors.AsType[*ShortageError](a.available(c, test.have+1))
			if !ok || short.Have != test.have || !strings.HasSuffix(short.What, test.where) {
				t.Errorf("one byte more: %+v", short)
			}
		})
	}
}

func TestANodeIsAskedForItsOwnMemory(t *testing.T) {
	o := small()
	o.Nodes, o.Reserve = []int{1}, 1<<20
	k := &saboteur{files: map[string]string{"/sys/devices/system/node/node1/meminfo": "Node 1 MemTotal: 99999 kB\n" +
		"Node 1 MemFree: 1024 kB\nNode 1 Inactive(file): 2048 kB\n"}}
	a := opened(t, k, o)
	short, ok := errors.AsType[*ShortageError](a.available(a.classes[0], 3<<20))
	if !ok || short.Node != 1 || short.Have != 2<<20 {
		t.Errorf("%+v", short)
	}
}

func TestANodeThatDoesNotExistIsAnErrorThatSaysSo(t *testing.T) {
	o := small()
	o.Nodes = []int{900}
	a := opened(t, linux{}, o)
	before := look(t, a)
	_, err := a.grow(t.Context(), growth{owner: "b", size: 1, node: 900})
	if err == nil || !strings.Contains(err.Error(), "node 900") {
		t.Errorf("growing: %v", err)
	}
	if now := fmt.Sprint(look(t, a)); now != fmt.Sprint(before) {
		t.Errorf("before: %v\nafter: %v", before, now)
	}
}

func TestWhatIsTooLargeIsAShortageOfAddressSpace(t *testing.T) {
	a := opened(t, linux{}, small())
	for _, size := range []uint64{1<<20 + 1, 1 << 40, 1<<64 - 1} {
		_, err := a.grow(t.Context(), growth{owner: "b", size: size, node: AnyNode})
		if short, ok := errors.AsType[*ShortageError](err); !ok || short.Have != 1<<20 || short.Want != size {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if _, err := a.grow(t.Context(), growth{owner: "b", node: AnyNode}); err == nil {
		t.Error("no bytes at all were given")
	}
	if _, err := a.grow(t.Context(), growth{size: 1, page: 12345, node: AnyNode}); err == nil {
		t.Error("pages that there are not were given")
	}
}

func TestOptionsThatCannotBeSayWhatToChange(t *testing.T) {
	for want, o := range map[string]Options{
		"kernel has no pages":    {Pages: []uint64{3 << 20}},
		"named twice":            {NoHuge: true, Nodes: []int{0, 0}},
		"power of two":           {NoHuge: true, Extent: 12 << 10},
		"not in Nodes":           {NoHuge: true, Minimum: map[int]uint64{7: 1}},
		"above the limit":        {NoHuge: true, Minimum: map[int]uint64{AnyNode: 2}, Limit: map[int]uint64{AnyNode: 1}},
		"need a Resolver":        {NoHuge: true, IOVA: IOVAAsPA},
		"no page size or no":     {Pages: []uint64{}},
		"the minimum of node -1": {NoHuge: true, Space: 1 << 20, Minimum: map[int]uint64{AnyNode: 1 << 30}},
	} {
		a, err := New(o)
		if err == nil {
			t.Errorf("%+v was accepted", o)
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not tell: %s", err, want)
		}
	}
}
