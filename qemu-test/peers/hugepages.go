package peers

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// hugepagesFile says how many pages of 2 MiB the machine has.
const hugepagesFile = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

// hugePage is their size in bytes.
const hugePage = 2 << 20

// ReserveHugepages makes n pages of 2 MiB available until the test ends, if the
// machine has them and lets us; the error says why not. testpmd uses pages of
// the default size, which must be that.
func ReserveHugepages(t testing.TB, n int) error {
	size, err := meminfo("Hugepagesize:")
	if err != nil {
		return err
	}
	if size != hugePage>>10 {
		return fmt.Errorf("the default hugepage is %d KiB, not 2048", size)
	}
	free, err := meminfo("HugePages_Free:")
	if err != nil || free >= n {
		return err
	}
	got, err := moreHugepages(n - free)
	if err != nil {
		return err
	}
	// Others may have reserved some meanwhile: take back only our own.
	t.Cleanup(func() { moreHugepages(-got) })
	// The kernel takes what it finds and reports no shortage: count again.
	if free, err = meminfo("HugePages_Free:"); err != nil || free < n {
		return fmt.Errorf("%d hugepages could be reserved, not %d", free, n)
	}
	return nil
}

// moreHugepages changes how many pages there are, and tells by how many it did.
// Who does so takes turns (tools/hugepages.sh, too).
func moreHugepages(n int) (got int, err error) {
	f, err := os.OpenFile(hugepagesFile, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return 0, err
	}
	had, err := readNumber(hugepagesFile)
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Fprint(f, max(0, had+n)); err != nil {
		return 0, err
	}
	now, err := readNumber(hugepagesFile)
	return now - had, err
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

// hugeCounts are the kernel's counters of pages of the default size.
type hugeCounts struct{ Free, Reserved int }

func countHuge(t testing.TB) (c hugeCounts) {
	t.Helper()
	var err error
	for name, into := range map[string]*int{"HugePages_Free:": &c.Free, "HugePages_Rsvd:": &c.Reserved} {
		if *into, err = meminfo(name); err != nil {
			t.Fatal(err)
		}
	}
	return c
}
