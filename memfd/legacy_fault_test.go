package memfd

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

func TestWhatContradictsLegacyModeOrNoHugeIsRefusedWithTheReason(t *testing.T) {
	for want, change := range map[string]func(o *Options){
		"without huge pages":   func(o *Options) { o.NoHuge = true },
		"no physical order":    func(o *Options) { o.Pages = []uint64{4096} },
		"with a limit":         func(o *Options) { o.Limit = map[int]uint64{AnyNode: 1 << 30} },
		"nothing grows":        func(o *Options) { o.PageLimit = map[uint64]uint64{legacyPage: 1 << 30} },
		"without a Resolver":   func(o *Options) { o.IOVA, o.Resolver = IOVAAsVA, nil },
		"NoHuge with pages of": func(o *Options) { *o = Options{NoHuge: true, Pages: []uint64{legacyPage}} },
		"run as root":          func(o *Options) { o.Resolver = hidden{} },
		"needs CAP_SYS_ADMIN":  func(o *Options) { o.Resolver = refusing{} },
	} {
		o := legacyOptions()
		change(&o)
		k := pretend()
		a, err := newArena(k, o)
		if err == nil {
			t.Errorf("not refused: %q", want)
			_ = a.Close()
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
		if left := memfds(t, o.Name); len(left) > 0 {
			t.Errorf("files that are open: %q", left)
		}
	}
}

// hidden is a resolver for who may not see physical addresses, refusing is one
// that says so.
type (
	hidden   struct{}
	refusing struct{}
)

func (hidden) Resolve(_ memtable.VA, n uint64) (memtable.PA, uint64, error) { return 0, n, nil }

func (refusing) Resolve(memtable.VA, uint64) (memtable.PA, uint64, error) {
	return 0, 0, errors.New("pagemap needs CAP_SYS_ADMIN")
}

func TestOpeningInLegacyModeThatFailsAtAnySystemCallLeavesNothing(t *testing.T) {
	var hits []string
	for k := 1; ; k++ {
		kernel := pretend()
		space := addressSpace(t)
		kernel.arm(unix.EIO, k)
		a, err := newArena(kernel, legacyOptions())
		failed := kernel.failed()
		hits = append(hits, failed...)
		if len(failed) == 0 {
			if err != nil {
				t.Fatal(err)
			}
			finish(t, kernel.saboteur, a, nil)
			break
		}
		if err == nil {
			t.Fatalf("%v failed and New did not", failed)
		}
		if left := memfds(t, "legacy"); len(left) > 0 {
			t.Errorf("after %v failed, files are open: %q", failed, left)
		}
		if now := addressSpace(t); now != space {
			t.Errorf("after %v failed, %q is mapped that was not", failed, now)
		}
	}
	slices.Sort(hits)
	want := strings.Fields("allocate create hide identify mapFile reserve seal undump unmap")
	if diff := cmp.Diff(want, slices.Compact(hits)); diff != "" {
		t.Error("the calls that failed:", diff)
	}
}

// addressSpace gives the mappings of our files.
func addressSpace(t testing.TB) (lines string) {
	t.Helper()
	text, err := linux{}.read("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "memfd:legacy") {
			lines += line
		}
	}
	return lines
}

func TestAFaultInLegacyModeTellsWhereInTheFileItIs(t *testing.T) {
	a := opened(t, pretend(), legacyOptions())
	c := a.classes[0]
	if err := unix.Ftruncate(c.file.fd, 0); err != nil {
		t.Fatal(err)
	}
	for i, place := range c.places {
		if place < 0 {
			continue
		}
		err := memtable.Guard(func() error { part{c, i, 1}.mem()[7] = 1; return nil })
		fault, ok := errors.AsType[*memtable.FaultError](err)
		if !ok || fault.Owner != c || fault.Offset != int64(place)*legacyPage+7 {
			t.Errorf("page %d: %+v", place, fault)
		}
	}
	if err := unix.Ftruncate(c.file.fd, int64(len(legacyFrames))*legacyPage); err != nil {
		t.Fatal(err)
	}
}
