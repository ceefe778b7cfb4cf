package conformance

import (
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
)

// region is n pages at an address, from the beginning of a file.
func region(gpa memtable.GPA, pages uint64) vhost.MemRegion {
	return vhost.MemRegion{GPA: gpa, UVA: memtable.UVA(gpa) + userShift, Size: pages * page}
}

// Rule 35★ (QEMU 7.2): ADD_MEM_REG for a region that is there already, which
// QEMU sends for every queue pair, succeeds, adds nothing and keeps no file.
func TestRegionAddedTwiceIsThereOnce(t *testing.T) {
	f := plug(t, network(), options{})
	r := f.ring(0)
	r.start()
	files, maps := openFiles(), mapped(t)
	must(t, f.AddMemReg(f.mem.MemRegion, f.mem.fd))
	if n := len(regions(f)); n != 1 || mapped(t) != maps {
		t.Errorf("there are %d regions and %d mappings more", n, mapped(t)-maps)
	}
	f.alive() // what came with the last message is closed by now
	if n := openFiles(); n != files {
		t.Errorf("%d files more are open", n-files)
	}
	r.works()
}

// Rule 36 (vhost-user, Memory regions description): Regions never overlap, in
// the guest's addresses or the front-end's. What would is refused.
func TestOverlappingRegionIsRefused(t *testing.T) {
	f := plug(t, entropy(), options{})
	file := newFile(t, 8*page)
	there := region(0x10_0000, 4)
	must(t, f.AddMemReg(there, file))
	free := region(0x80_0000, 4)
	for _, overlap := range []vhost.MemRegion{
		{GPA: there.GPA + 3*page, UVA: free.UVA, Size: page},
		{GPA: there.GPA - page, UVA: free.UVA, Size: 2 * page},
		{GPA: there.GPA - page, UVA: free.UVA, Size: 6 * page},
		{GPA: free.GPA, UVA: there.UVA + 3*page, Size: page},
		{GPA: there.GPA, UVA: there.UVA, Size: 2 * page},
		{GPA: there.GPA, UVA: there.UVA, Size: 4 * page, Offset: page},
	} {
		f.refused(f.AddMemReg(overlap, file))
	}
	must(t, f.AddMemReg(vhost.MemRegion{GPA: there.GPA + 4*page, UVA: free.UVA, Size: page}, file)) // it touches
	if n := len(regions(f)); n != 3 {
		t.Errorf("there are %d regions, want 3", n)
	}
}

// Rule 37 (vhost-user, GET_MAX_MEM_SLOTS): When all slots are taken one more
// region is refused, until one is taken away.
func TestRegionBeyondTheSlotsIsRefused(t *testing.T) {
	f := connect(t, entropy())
	f.agree(options{})
	slots, err := f.GetMaxMemSlots()
	must(t, err)
	file := newFile(t, page)
	next := func(i uint64) vhost.MemRegion { return region(memtable.GPA(i*2*page), 1) }
	for i := range slots {
		must(t, f.AddMemReg(next(i), file))
	}
	f.refused(f.AddMemReg(next(slots), file))
	must(t, f.RemMemReg(next(1)))
	must(t, f.AddMemReg(next(slots), file))
}

// Rule 38★ (vhost-user, REM_MEM_REG): Some front-ends send a file with
// REM_MEM_REG. It is closed, and the region goes.
func TestRemovalWithAFileSucceeds(t *testing.T) {
	f := plug(t, entropy(), options{})
	stray, gone := f.canary()
	f.acked(vhost.RemMemReg, payloadOf(vhost.SingleRegion(f.mem.MemRegion)), stray)
	gone()
	if n := len(regions(f)); n != 0 {
		t.Errorf("there are %d regions, want none", n)
	}
}

// Rule 39 (vhost-user, REM_MEM_REG): A region is found by its addresses and its
// size: the offset that is named does not matter.
func TestRemovalLooksAtNoOffset(t *testing.T) {
	f := plug(t, entropy(), options{})
	other := f.mem.MemRegion
	other.Offset = 0x1234_5000
	must(t, f.RemMemReg(other))
	if n := len(regions(f)); n != 0 {
		t.Errorf("there are %d regions, want none", n)
	}
}

// Rule 40 (QEMU 7.2): REM_MEM_REG for a region that is gone already, for it
// comes once for every queue pair, succeeds.
func TestRemovalTwiceIsOnce(t *testing.T) {
	f := plug(t, network(), options{})
	must(t, f.AddMemReg(region(0x10_0000, 1), newFile(t, page)))
	must(t, f.RemMemReg(f.mem.MemRegion))
	must(t, f.RemMemReg(f.mem.MemRegion))
	if n := len(regions(f)); n != 1 {
		t.Errorf("there are %d regions, want the other one", n)
	}
}

// Rule 41 (vhost-user, REM_MEM_REG): When the removal of a region is
// acknowledged nothing in it is in use any more: a ring that is there has
// stopped, workers have left, and it is unmapped.
func TestRemovedRegionIsNotInUse(t *testing.T) {
	var r *ring
	f := stayer().answeredAfterLeaving(t, func(f *front, started *ring) {
		r = started
		f.send(vhost.RemMemReg, needReply, payloadOf(vhost.SingleRegion(f.mem.MemRegion)))
	})
	if n := mapped(t); n != 1 {
		t.Errorf("%d mappings of the memory are left, ours among them", n)
	}
	f.signalled(r.err)
	r.post()
	if r.used() != 1 {
		t.Error("the ring is served without its memory")
	}
	must(t, f.AddMemReg(f.mem.MemRegion, f.mem.fd)) // where it goes on
	r.returned()
}

// Rule 42 (QEMU): After a reconnect there are no fewer memory slots than
// before, or QEMU refuses the back-end.
func TestSlotsAreNoFewerAfterReconnect(t *testing.T) {
	b := listen(t, entropy())
	var before uint64
	for range 2 {
		f := b.dial()
		f.agree(options{})
		slots, err := f.GetMaxMemSlots()
		must(t, err)
		if slots < before || slots < 8 {
			t.Errorf("%d slots, there were %d", slots, before)
		}
		before = slots
		f.share()
		f.Close()
		must(t, b.end())
	}
}
