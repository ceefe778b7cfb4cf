package memfd

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

func TestEveryPageCanBeReadHereAndThroughItsFile(t *testing.T) {
	onEveryPage(t, 3, func(t *testing.T, k *saboteur, o Options) {
		a, _ := arenaOf(t, k, o)
		defer closing(t, k, a)
		h, err := a.Heap("heap", HeapOptions{})
		if err != nil {
			t.Fatal(err)
		}
		b := lend(t, h, 100, 0)
		z := zoned(t, a, "zone", ZoneOptions{Size: 100})
		p, err := a.Pool(t.Context(), "pool", PoolOptions{Size: 100, Count: 1})
		if err != nil {
			t.Fatal(err)
		}
		all := a.Extents()
		if len(all) != 3 {
			t.Fatalf("there are %d extents for three users", len(all))
		}
		for i, e := range all {
			if e.Addr != memtable.IOVA(numberOf(e.VA)) {
				t.Errorf("devices are told %x of the extent at %v", e.Addr, e.VA)
			}
			for off := uint64(0); off < e.Size; off += o.Pages[0] {
				want := []byte{byte(i), byte(off >> 12), 0xa5}
				copy(e.VA.Add(off).Bytes(3), want)
				got := make([]byte, 3)
				if n, err := unix.Pread(e.FD, got, e.Offset+int64(off)); n != 3 || !bytes.Equal(got, want) {
					t.Fatalf("offset %d of %+v reads %x: %v", off, e, got, err)
				}
			}
		}
		freed(t, h, b)
		unzoned(t, z)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestAPeerThatMapsAPlanReachesAllThatIsUsedAndTakesNoPages maps what a peer is
// told to, with fewer and fewer regions, and so with holes in them.
func TestAPeerThatMapsAPlanReachesAllThatIsUsedAndTakesNoPages(t *testing.T) {
	onEveryPage(t, 6, func(t *testing.T, k *saboteur, o Options) {
		a, unit := arenaOf(t, k, o)
		defer closing(t, k, a)
		var held []*block
		for i := range 6 {
			b := take(t, a, growth{owner: fmt.Sprint(i), size: unit, node: AnyNode, shared: true})
			held = append(held, b)
		}
		giveBack(t, a, held[1])
		giveBack(t, a, held[3])
		giveBack(t, a, held[4])
		held = []*block{held[0], held[2], held[5]}
		for regions, waste := range map[int]uint64{3: 0, 2: 1, 1: 3} {
			plan, err := memtable.MakePlan(a.Runs(), regions, unit)
			if err != nil || plan.Waste() != waste*unit {
				t.Fatalf("%d regions: %+v, %v", regions, plan, err)
			}
			before := fmt.Sprint(memfds(t, o.Name))
			for _, r := range plan.Regions {
				e, _ := a.Lookup(held[0].VA)
				peer, err := memtable.MapFile(e.FD, int64(r.Offset), r.Size, memtable.MapOptions{})
				if err != nil {
					t.Fatal(err)
				}
				for i, b := range held {
					if at := numberOf(b.VA) - r.Addr; at < r.Size {
						peer.VA().Add(at).Bytes(1)[0] = byte(10*regions + i)
					}
				}
				if err := peer.Close(); err != nil {
					t.Error(err)
				}
			}
			for i, b := range held {
				if got := b.VA.Bytes(1)[0]; got != byte(10*regions+i) {
					t.Errorf("%d regions: the peer wrote %d to extent %d, we read %d", regions, 10*regions+i, i, got)
				}
			}
			if after := fmt.Sprint(memfds(t, o.Name)); after != before {
				t.Errorf("%d regions: the file had %s, and has %s", regions, before, after)
			}
		}
		for _, b := range held {
			giveBack(t, a, b)
		}
	})
}

// flagsOf gives what the kernel notes of the mapping that an address lies in.
func flagsOf(t *testing.T, at uint64) string {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(smaps)) {
		var from, to uint64
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			inside = from <= at && at < to
		} else if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && inside {
			return flags
		}
	}
	t.Fatalf("nothing is mapped at %x", at)
	return ""
}

func TestMemoryIsKeptOutOfCoreDumps(t *testing.T) {
	onEveryPage(t, 1, func(t *testing.T, k *saboteur, o Options) {
		a, unit := arenaOf(t, k, o)
		defer closing(t, k, a)
		for range 2 { // and once it has been given back
			b := take(t, a, growth{owner: "b", size: unit, node: AnyNode})
			if flags := flagsOf(t, numberOf(b.VA)); !strings.Contains(flags, " dd ") {
				t.Errorf("the flags of what is mapped are %q", flags)
			}
			giveBack(t, a, b)
		}
	})
}

// meddler is a kernel with a peer in it that writes to new pages before we map
// them, as one can that has the file already.
type meddler struct{ linux }

func (m meddler) mapFile(at []byte, fd int, off int64) error {
	if _, err := unix.Pwrite(fd, []byte("peer"), off); err != nil {
		return err
	}
	return m.linux.mapFile(at, fd, off)
}

func TestMappingNewPagesOverwritesNothing(t *testing.T) {
	a := opened(t, meddler{}, small())
	b := take(t, a, growth{owner: "b", size: 16 << 10, node: AnyNode, shared: true})
	if got := string(b.VA.Bytes(4)); got != "peer" {
		t.Errorf("the peer wrote to the page, and it reads %q", got)
	}
	giveBack(t, a, b)
}
