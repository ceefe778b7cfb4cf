package memfd

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// hugeDir has a directory for each size of huge pages.
const hugeDir = "/sys/kernel/mm/hugepages"

// hugeSizes gives the sizes of huge pages that the kernel has, largest first,
// in bytes; none on a kernel without.
func hugeSizes(k kernel) []uint64 {
	names, err := k.list(hugeDir)
	if err != nil {
		return nil
	}
	var sizes []uint64
	for _, name := range names {
		kb, ok := strings.CutPrefix(name, "hugepages-")
		kb, ok2 := strings.CutSuffix(kb, "kB")
		n, err := strconv.ParseUint(kb, 10, 44)
		if ok && ok2 && err == nil {
			sizes = append(sizes, n<<10)
		}
	}
	slices.Sort(sizes)
	slices.Reverse(sizes)
	return sizes
}

// hugeFree gives the bytes of free huge pages: of a node, or of the machine
// without those that somebody has reserved already. It is told to people; what
// can be had is only known by asking for it.
func hugeFree(k kernel, page uint64, node int) uint64 {
	dir := fmt.Sprintf("%s/hugepages-%dkB", hugeDir, page>>10)
	if node >= 0 {
		dir = fmt.Sprintf("/sys/devices/system/node/node%d/hugepages/hugepages-%dkB", node, page>>10)
	}
	free, err := readNumber(k, dir+"/free_hugepages")
	if err != nil {
		return 0
	}
	if reserved, err := readNumber(k, dir+"/resv_hugepages"); err == nil {
		free -= min(free, reserved)
	}
	return free * page
}

// readNumber reads a file that holds one number and nothing else.
func readNumber(k kernel, path string) (uint64, error) {
	text, err := k.read(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64)
}

// field finds the number of a key in lines of "key number" or "key: number kB",
// and gives it in bytes, or as it is if it has no unit.
func field(text []byte, key string) (n uint64, ok bool) {
	for line := range bytes.Lines(text) {
		words := strings.Fields(string(line))
		// meminfo of a node has "Node 0 MemFree: 12 kB".
		if len(words) > 2 && words[0] == "Node" {
			words = words[2:]
		}
		if len(words) < 2 || strings.TrimSuffix(words[0], ":") != key {
			continue
		}
		n, err := strconv.ParseUint(words[1], 10, 54)
		if len(words) > 2 && words[2] == "kB" {
			n <<= 10
		}
		return n, err == nil
	}
	return 0, false
}
