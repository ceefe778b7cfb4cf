package peers

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const hugepagesFile = "/proc/sys/vm/nr_hugepages"

var hugepages sync.Mutex // the number of pages is one for the machine

// ReserveHugepages makes n pages of the default size available until the test
// ends, if the machine has them and lets us; the error says why not.
func ReserveHugepages(t testing.TB, n int) error {
	size, err := meminfo("Hugepagesize:")
	if err != nil {
		return err
	}
	if size != 2048 {
		return fmt.Errorf("the default hugepage is %d KiB, not 2048", size)
	}
	hugepages.Lock()
	defer hugepages.Unlock()
	before, err := readNumber(hugepagesFile)
	if err != nil {
		return err
	}
	free, err := meminfo("HugePages_Free:")
	if err != nil || free >= n {
		return err
	}
	restore := func() { os.WriteFile(hugepagesFile, []byte(strconv.Itoa(before)), 0) }
	want := before + n - free
	if err := os.WriteFile(hugepagesFile, []byte(strconv.Itoa(want)), 0); err != nil {
		return err
	}
	// The kernel takes what it finds and reports no shortage: count again.
	if free, err = meminfo("HugePages_Free:"); err != nil || free < n {
		restore()
		return fmt.Errorf("%d hugepages could be reserved, not %d", free, n)
	}
	t.Cleanup(restore)
	return nil
}

// meminfo reads one number of /proc/meminfo.
func meminfo(key string) (int, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			return strconv.Atoi(f[1])
		}
	}
	return 0, fmt.Errorf("/proc/meminfo has no %s: this kernel has no hugepages", key)
}

func readNumber(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
