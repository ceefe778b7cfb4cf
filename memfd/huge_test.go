package memfd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// hugePages sees to it that n huge pages of a size are free for the test, or
// skips it. The machine's number of pages is put back with the test.
func hugePages(t testing.TB, page uint64, n int) {
	t.Helper()
	k := linux{}
	if hugeFree(k, page, AnyNode) >= uint64(n)*page {
		return
	}
	file := fmt.Sprintf("%s/hugepages-%dkB/nr_hugepages", hugeDir, page>>10)
	got, err := moreHuge(file, n)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the kernel has no pages of %s: %v", bytesText(page), err)
	}
	if err != nil {
		t.Skipf("%d free huge pages of %s are needed, and none can be reserved: %v", n, bytesText(page), err)
	}
	t.Cleanup(func() {
		// Others may have reserved some meanwhile: take back only our own.
		if _, err := moreHuge(file, -got); err != nil {
			t.Error("putting the number of huge pages back:", err)
		}
	})
	if free := hugeFree(k, page, AnyNode); free < uint64(n)*page {
		t.Skipf("%d free huge pages of %s are needed, the kernel found %d", n, bytesText(page), free/page)
	}
}

// moreHuge changes how many huge pages there are, and tells by how many it did:
// the kernel may find fewer. Who does so takes turns (tools/hugepages.sh, too).
func moreHuge(file string, n int) (got int, err error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return 0, err
	}
	had, err := readNumber(linux{}, file)
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Fprint(f, max(0, int(had)+n)); err != nil {
		return 0, err
	}
	now, err := readNumber(linux{}, file)
	return int(now) - int(had), err
}

// hugeCounters gives what the kernel says of its huge pages.
func hugeCounters(t testing.TB, page uint64) string {
	t.Helper()
	var s strings.Builder
	for _, name := range []string{"free", "resv", "surplus"} {
		n, err := readNumber(linux{}, fmt.Sprintf("%s/hugepages-%dkB/%s_hugepages", hugeDir, page>>10, name))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&s, "%s %d ", name, n)
	}
	return s.String()
}

// unchanged tells that the counters are the same after f as before. Others use
// the same pages, so a difference counts only if it comes up each time.
func unchanged(t testing.TB, page uint64, f func()) {
	t.Helper()
	var before, after string
	for range 5 {
		before = hugeCounters(t, page)
		f()
		if after = hugeCounters(t, page); before == after {
			return
		}
	}
	t.Errorf("huge pages before: %s, after: %s", before, after)
}

func hugeOptions(page uint64) Options {
	return Options{Name: "huge", Pages: []uint64{page}, Space: 16 * page, Linger: -1}
}

func TestHugePagesComeZeroedAndGoBackToTheLastOne(t *testing.T) {
	for _, page := range []uint64{2 << 20, 1 << 30} {
		t.Run(bytesText(page), func(t *testing.T) {
			n := 4
			if page == 1<<30 {
				n = 1
			}
			hugePages(t, page, n)
			a := opened(t, linux{}, hugeOptions(page))
			w, _ := followed(t, a)
			unchanged(t, page, func() {
				size := uint64(n) * page
				for range 2 { // the second time the pages have been written to
					b := take(t, a, growth{owner: "b", size: size, node: AnyNode, shared: true})
					for off := uint64(0); off < size; off += 4096 {
						if p := b.VA.Add(off).Bytes(1); p[0] != 0 {
							t.Fatalf("offset %d reads %d", off, p[0])
						} else {
							p[0] = 1
						}
					}
					e, _ := a.Lookup(b.VA)
					if len(w.addresses()) != n || e.Size != page || e.Page != page || e.Offset != 0 {
						t.Errorf("%d extents were announced, the first is %+v", len(w.addresses()), e)
					}
					giveBack(t, a, b)
				}
			})
		})
	}
}

func TestTooFewHugePagesAreAnErrorAndNotAFault(t *testing.T) {
	const page = 2 << 20
	hugePages(t, page, 2)
	free := hugeFree(linux{}, page, AnyNode)
	o := hugeOptions(page)
	o.Space = free + 64*page
	a := opened(t, linux{}, o)
	unchanged(t, page, func() {
		_, err := a.grow(t.Context(), growth{owner: "b", size: free + 32*page, node: AnyNode})
		short, ok := errors.AsType[*ShortageError](err)
		if !ok || !strings.Contains(short.What, "huge pages of 2 MiB") || !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.ENOMEM) {
			t.Errorf("growing: %v", err)
		}
	})
	if files := memfds(t, o.Name); len(files) > 0 {
		t.Errorf("files that stay: %q", files)
	}
}

func TestWithoutHugePagesSystemPagesServe(t *testing.T) {
	const page = 2 << 20
	o := hugeOptions(page)
	o.Pages = []uint64{page, uint64(os.Getpagesize())}
	k := new(saboteur)
	a, err := newArena(k, o)
	if err != nil {
		t.Skip("the kernel has no huge pages of 2 MiB:", err)
	}
	defer finish(t, k, a, nil)
	k.arm(unix.ENOSPC, 4) // allocate, after create, seal and identify
	b := take(t, a, growth{owner: "b", size: page, node: AnyNode})
	if b.Page == page {
		t.Error("huge pages were given that there were not")
	}
	giveBack(t, a, b)
}

func TestAFailureAtAnySystemCallLeavesTheHugePagesAsTheyWere(t *testing.T) {
	const page = 2 << 20
	hugePages(t, page, 4)
	kernel := new(saboteur)
	a, err := newArena(kernel, hugeOptions(page))
	if err != nil {
		t.Fatal(err)
	}
	defer finish(t, kernel, a, nil)
	for k, failed := 1, true; failed; k++ {
		unchanged(t, page, func() {
			kernel.arm(unix.ENOMEM, k)
			b, err := a.grow(t.Context(), growth{owner: "b", size: 4 * page, node: AnyNode})
			failed = len(kernel.failed()) > 0
			kernel.arm(nil)
			switch {
			case failed && err == nil:
				t.Error("growing succeeded")
			case !failed && err != nil:
				t.Error(err)
			case !failed:
				giveBack(t, a, b)
			}
		})
	}
}
