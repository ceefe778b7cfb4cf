package virtio_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// cuttable is memory in a file, and what cuts the file off after n bytes.
func cuttable(t *testing.T, size uint32) (b memtable.Buf, cut func(n int64)) {
	t.Helper()
	fd, err := unix.MemfdCreate("ring", unix.MFD_CLOEXEC)
	if err != nil {
		t.Skipf("no memfd: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	cut = func(n int64) {
		if err := unix.Ftruncate(fd, n); err != nil {
			t.Fatal(err)
		}
	}
	cut(int64(size))
	mapping, err := memtable.MapFile(fd, 0, uint64(size), memtable.MapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mapping.Close() })
	return memtable.Buf{VA: mapping.VA(), Addr: 0x1000_0000, Cap: size}, cut
}

// faults says whether do ended in a fault of our memory.
func faults(do func()) bool {
	_, ok := errors.AsType[*memtable.FaultError](memtable.Guard(func() error { do(); return nil }))
	return ok
}

// TestMemoryThatVanishesIsAFaultAndNothingIsLost: a peer cuts off the file that
// the ring is in. What was lent is got back, what was not is still the caller's.
func TestMemoryThatVanishesIsAFaultAndNothingIsLost(t *testing.T) {
	ring, cut := cuttable(t, 16<<10)
	b := newBus(t, busOptions{size: 8, features: indirect, slots: 4, bytes: 4096})
	place, err := virtio.PlaceRing(ring, 8)
	if err != nil {
		t.Fatal(err)
	}
	b.o.Placement = place
	q, err := virtio.NewDriverQueue(b.o)
	if err != nil {
		t.Fatal(err)
	}
	bufs := b.bufs(t, 4, 16, 1)
	q.AddBurst(bufs[:2], virtio.Writable)
	q.Publish()
	cut(0)
	for name, do := range map[string]func(){
		"Reap":     func() { q.Reap(bufs) },
		"AddBurst": func() { q.AddBurst(bufs[2:], virtio.Writable) },
		"Add":      func() { _ = q.Add(bufs[2:3], bufs[3:], 9) },
		"Arm":      func() { q.Arm() },
	} {
		if !faults(do) || q.Lent() != 2 || q.Room() != 6 {
			t.Errorf("%s: %d are lent, %d have room", name, q.Lent(), q.Room())
		}
	}
	back := q.Reclaim()
	if len(back) != 2 || back[0].VA != bufs[0].VA || back[1].Token != 2 {
		t.Errorf("%+v was reclaimed", back)
	}
}

// TestAFaultInTheMiddleOfABurstLendsNoneOfIt: half of the descriptor table is
// gone, and half of the burst was written when that showed.
func TestAFaultInTheMiddleOfABurstLendsNoneOfIt(t *testing.T) {
	const size, page = 512, 4096
	table, cut := cuttable(t, 2*page)
	b := newBus(t, busOptions{size: size, bytes: 8192})
	b.o.Placement.Desc = table
	q, err := virtio.NewDriverQueue(b.o)
	if err != nil {
		t.Fatal(err)
	}
	bufs := b.bufs(t, 8, 16, 1)
	for range size/2/len(bufs) - 1 {
		q.AddBurst(bufs, virtio.Readable) // the same ones: the device does not mind
	}
	q.AddBurst(bufs[:4], virtio.Readable)
	lent := q.Lent()
	cut(page)
	if !faults(func() { q.AddBurst(bufs, virtio.Readable) }) || q.Lent() != lent || q.Room() != size-lent {
		t.Errorf("%d are lent, want %d; %d have room", q.Lent(), lent, q.Room())
	}
	if back := q.Reclaim(); len(back) != lent {
		t.Errorf("%d were reclaimed, want %d", len(back), lent)
	}
}
