package peers

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// books are kept by the test itself: where everything lies that is alive.
type books struct {
	vnet.Allocator

	mu   sync.Mutex
	live []memtable.Buf // rings, tables, and the buffers there were at first
}

// AllocZero writes down what the driver's rings and tables are made of.
func (k *books) AllocZero(ctx context.Context, n, align uint64) (memtable.Buf, error) {
	b, err := k.Allocator.AllocZero(ctx, n, align)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.live = append(k.live, b)
	}
	return b, err
}

// pages are the huge pages that hold any of that, or one of more buffers.
func (k *books) pages(more []memtable.Buf) map[memtable.IOVA]bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := map[memtable.IOVA]bool{}
	for _, b := range append(more, k.live...) {
		for at := b.Addr &^ (hugePage - 1); at < b.Addr+memtable.IOVA(b.Cap); at += hugePage {
			all[at] = true
		}
	}
	return all
}

// What is shared with the daemon is what is in use, to the page: by the test's
// own books, by what the driver says, by the daemon's table, and by what the
// kernel has mapped there. No page is reserved, and all go back.
func TestWhatIsSharedIsWhatIsInUse(t *testing.T) {
	if err := ReserveHugepages(t, 24); err != nil {
		t.Skip("no hugepages:", err)
	}
	// Others use huge pages too, so a difference counts only if it is always there.
	var err error
	for range 5 {
		if err = shareExactly(t); err == nil || t.Failed() {
			break
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// shareExactly takes front-ends up and down. The error is about the counters of
// the machine.
func shareExactly(t *testing.T) (machine error) {
	t.Helper()
	r := road{queues: 1}
	v, pa, _ := r.vhostd(t)
	before := countHuge(t)
	k := &books{}
	f := StartFront(t, eightThousand(FrontConfig{
		MAC: 1, Dial: pa, Pairs: 1, Size: 256, Page: hugePage,
		Grow: func(f *Front) {
			k.live = f.freeBuffers()
			if len(k.live) < 8192 {
				t.Errorf("%d buffers of 8192 were seen", len(k.live))
			}
		},
		Alloc: func(a vnet.Allocator) vnet.Allocator { k.Allocator = a; return k },
	}))
	defer f.Close()
	// What is not to be shared lies in the same file, in pages of its own.
	private, err := f.Arena.Heap("private", memfd.HeapOptions{Node: memfd.AnyNode})
	if err != nil {
		t.Fatal(err)
	}
	secret, err := private.Alloc(t.Context(), 3*hugePage/2, 0)
	if err != nil {
		t.Fatal(err)
	}
	held := k.exact(t, v, f)
	if got, want := countHuge(t), (hugeCounts{before.Free - held - 2, before.Reserved}); got != want {
		machine = fmt.Errorf("huge pages while %d are shared, and 2 are not: %+v, want %+v", held, got, want)
	}
	for range 3 {
		if err := f.Pool.Grow(t.Context(), 4*862); err != nil {
			t.Fatal(err)
		}
		if n := k.exact(t, v, f); n != held+4 {
			t.Errorf("after growing by 4 pages %d are shared, before %d", n, held)
		}
		if gone, err := f.Pool.Shrink(t.Context(), 3*862); gone != 3*862 || err != nil {
			t.Fatal(gone, err)
		}
		if n := k.exact(t, v, f); n != held+1 {
			t.Errorf("after shrinking by 3 pages %d are shared, before growing %d", n, held)
		}
		if gone, err := f.Pool.Shrink(t.Context(), 862); gone != 862 || err != nil {
			t.Fatal(gone, err)
		}
	}
	if f.Link.Shares(secret.Addr, 1) {
		t.Error("private memory is shared")
	}
	if err := private.Free(secret); err != nil {
		t.Fatal(err)
	}
	if err := private.Close(); err != nil {
		t.Fatal(err)
	}
	k.exact(t, v, f)
	f.Close()
	v.Await("the daemon to unmap", func() bool { return len(v.mappings(t, 0, "peers-front")) == 0 })
	if after := countHuge(t); after != before {
		machine = fmt.Errorf("huge pages before: %+v, after: %+v", before, after)
	}
	return machine
}

// eightThousand is a pool as testpmd has one for a port: 8192 buffers, each as
// long as one of DPDK's with all that belongs to it.
func eightThousand(c FrontConfig) FrontConfig {
	c.Buffer, c.Count = 2432, 8192
	return c
}

// exact compares what is shared with what is in use, and gives it in pages.
func (k *books) exact(t *testing.T, v *Vhostd, f *Front) int {
	t.Helper()
	used := k.pages(f.freeBuffers())
	s := f.Link.Info().Share
	bytes := uint64(len(used)) * hugePage
	if s.Used != bytes || s.Shared != bytes || s.Waste() != 0 || !s.Slots || s.Regions > s.Max {
		t.Errorf("%d bytes are in use by the test's books; the front-end says %+v", bytes, s)
	}
	var regions, mapped uint64
	for _, r := range v.Regions("a") {
		regions += r.Size
		if r.Offset%hugePage != 0 || r.PageSize != hugePage {
			t.Errorf("the daemon has a region %+v", r)
		}
	}
	for _, m := range v.mappings(t, v.Regions("a")[0].Inode, "") {
		mapped += m
	}
	if regions != bytes || mapped != bytes {
		t.Errorf("%d bytes are in use; %d are in the daemon's table, %d are mapped there", bytes, regions, mapped)
	}
	for at := range used {
		if !f.Link.Shares(at, hugePage) {
			t.Errorf("the page at %#x is in use and not shared", uint64(at))
		}
	}
	return len(used)
}

// freeBuffers gives the buffers of the pool that nobody has.
func (f *Front) freeBuffers() (all []memtable.Buf) {
	c := f.Pool.Cache()
	defer c.Close()
	var b [64]memtable.Buf
	for n := c.Get(b[:]); n > 0; n = c.Get(b[:]) {
		all = append(all, b[:n]...)
	}
	c.Put(all)
	return all
}

// mappings are the sizes of what the daemon has mapped of a file, by its number
// or by a part of its name.
func (v *Vhostd) mappings(t *testing.T, inode uint64, name string) (sizes []uint64) {
	t.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/smaps", v.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ours := false
	for s := bufio.NewScanner(file); s.Scan(); {
		f := strings.Fields(s.Text())
		switch {
		case strings.Contains(f[0], "-"): // proc(5): the head of a mapping
			n, _ := strconv.ParseUint(f[4], 10, 64)
			ours = n == inode && inode != 0 || name != "" && strings.Contains(s.Text(), name)
		case ours && f[0] == "Size:":
			n, err := strconv.ParseUint(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, n<<10)
		}
	}
	return sizes
}
