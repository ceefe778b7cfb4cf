package conformance

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
)

// reads fails unless the device reads want when r offers n bytes at addr.
func (r *ring) reads(d *device, addr uint64, want []byte) {
	r.f.t.Helper()
	d.got()
	r.desc(0, addr, uint32(len(want)), 0, 0)
	r.offer(0)
	r.ringKick()
	r.returned()
	if got := d.got(); len(got) != 1 || !bytes.Equal(got[0], want) {
		r.f.t.Errorf("at %#x the device read %.32q, want %.32q", addr, got, want)
	}
}

// setTable announces regions by SET_MEM_TABLE.
func (f *front) setTable(mems ...*memory) {
	f.t.Helper()
	regions, fds := tableOf(mems)
	must(f.t, f.SetMemTable(regions, fds))
}

func tableOf(mems []*memory) (regions []vhost.MemRegion, fds []int) {
	for _, m := range mems {
		regions, fds = append(regions, m.MemRegion), append(fds, m.fd)
	}
	return regions, fds
}

// Rule 29 (vhost-user, SET_MEM_TABLE): Each of up to eight regions is mapped
// from the file that came in its place, from its offset on.
func TestTableMapsEachFileAtItsOffset(t *testing.T) {
	d := entropy()
	f := plug(t, d, options{})
	var mems []*memory
	for i := range uint64(8) {
		m := newMemory(t, vhost.MemRegion{
			GPA: memtable.GPA(i << 20), UVA: userShift + memtable.UVA(i<<20), Size: 4 * ringBytes, Offset: (8 - i) * page,
		})
		copy(m.b[ringBytes:], bytes.Repeat([]byte{'a' + byte(i)}, 64))
		mems = append(mems, m)
	}
	f.setTable(mems...)
	r := f.ringIn(mems[3], 0, 0)
	r.start()
	for i, m := range mems {
		r.reads(d, uint64(m.GPA)+ringBytes, bytes.Repeat([]byte{'a' + byte(i)}, 64))
	}
}

// Rule 30 (QEMU): Two regions may lie in one file, as QEMU has the memory below
// and above 4 GiB. Both are translated.
func TestTwoRegionsOfOneFile(t *testing.T) {
	const high = 2 << 30
	d := entropy()
	f := plug(t, d, options{})
	fd := newFile(t, high+4*ringBytes)
	low := memoryIn(t, fd, vhost.MemRegion{GPA: 0, UVA: userShift, Size: 4 * ringBytes})
	above := memoryIn(t, fd, vhost.MemRegion{GPA: 4 << 30, UVA: userShift + high, Size: 4 * ringBytes, Offset: high})
	copy(low.b[ringBytes:], "low")
	copy(above.b[ringBytes:], "high")
	f.setTable(low, above)
	r := f.ringIn(above, 0, 0)
	r.start()
	r.reads(d, ringBytes, []byte("low"))
	r.reads(d, 4<<30+ringBytes, []byte("high"))
	s := f.ringIn(low, 0, 1)
	s.start()
	s.works()
}

// Rule 31 (QEMU): A front-end's address is aligned to 4 KiB and no better, for
// QEMU's end in …fff000.
func TestUserAddressNeedsNoAlignment(t *testing.T) {
	f := plug(t, entropy(), options{})
	f.setTable(f.mem) // another table, without the region of plug
	m := newMemory(t, vhost.MemRegion{GPA: 0x20_0000, UVA: 0x7f12_345f_f000, Size: 4 * ringBytes})
	f.setTable(m)
	r := f.ringIn(m, 0, 0)
	r.start()
	r.works()
}

// Rule 32 (vhost-user, Memory regions description): Neither offset nor size
// need be mappable as they are: the mapping is rounded to the pages of the file,
// huge ones too, and only the region is shown.
func TestOffsetAndSizeAreRoundedToPagesOfTheFile(t *testing.T) {
	f := plug(t, entropy(), options{})
	whole := memoryIn(t, newFile(t, 6*ringBytes), vhost.MemRegion{Size: 6 * ringBytes})
	odd := &memory{fd: whole.fd, b: whole.b[0x810:], MemRegion: vhost.MemRegion{
		GPA: 0x10_0000, UVA: 0x10_0000 + userShift, Size: 4*ringBytes + 0x123, Offset: 0x810,
	}}
	must(t, f.AddMemReg(odd.MemRegion, odd.fd))
	r := f.ringIn(odd, 0, 0)
	r.start()
	r.works()

	const huge = 2 << 20
	fd, err := unix.MemfdCreate("conformance-huge", unix.MFD_CLOEXEC|unix.MFD_HUGETLB|unix.MFD_HUGE_2MB)
	if err != nil {
		t.Skip("no huge pages of 2 MiB: ", err)
	}
	defer unix.Close(fd)
	must(t, unix.Ftruncate(fd, 3*huge))
	part := vhost.MemRegion{GPA: 2 << 30, UVA: 2<<30 + userShift, Size: huge + page, Offset: page}
	maps := mapped(t)
	must(t, f.AddMemReg(part, fd)) // nothing is touched: it takes no page
	if mapped(t) != maps+1 {
		t.Error("the huge pages are not mapped")
	}
	must(t, f.RemMemReg(part))
	if mapped(t) != maps {
		t.Error("the huge pages are not unmapped")
	}
}

// Rule 33★ (vhost-user, SET_MEM_TABLE): A new table may come while rings run.
// They go on where they were, in the memory that is now at their addresses.
func TestTableIsReplacedUnderRunningRings(t *testing.T) {
	f := plug(t, entropy(), options{})
	old := f.ring(0)
	old.start()
	old.works()
	old.works()

	// The same addresses, in another file that holds the same.
	moved := newMemory(t, vhost.MemRegion{GPA: f.mem.GPA, UVA: f.mem.UVA, Size: f.mem.Size, Offset: page})
	copy(moved.b, f.mem.b)
	more := newMemory(t, vhost.MemRegion{GPA: 0x1000, UVA: 0x1000 + userShift, Size: page})
	f.setTable(moved, more)
	r := *old
	r.mem = moved
	r.works()
	if r.used() != 3 || old.used() != 2 {
		t.Errorf("%d chains were used in the new memory and %d in the old, want 3 and 2", r.used(), old.used())
	}
	f.setTable(moved) // what stays is not disturbed
	r.works()
	if got := r.stop(); got != 4 {
		t.Errorf("the ring goes on at %d, 4 chains were served", got)
	}
}

// Rule 34 (vhost-user, SET_MEM_TABLE): A table that is refused changes nothing:
// the one before stays whole, and rings in it run.
func TestRefusedTableLeavesTheOld(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.start()
	r.works()
	maps := mapped(t)
	file := newFile(t, 8*page)
	at := func(gpa, uva, size, off uint64) vhost.MemRegion {
		return vhost.MemRegion{GPA: memtable.GPA(gpa), UVA: userShift + memtable.UVA(uva), Size: size, Offset: off}
	}
	for name, table := range map[string][]vhost.MemRegion{
		"guest addresses overlap": {at(0x1000, 0x1000, 2*page, 0), at(0x2000, 0x8000, page, 0)},
		"user addresses overlap":  {at(0x1000, 0x1000, 2*page, 0), at(0x8000, 0x2000, page, 0)},
		"past the file's end":     {at(0x1000, 0x1000, page, 0), at(0x8000, 0x8000, 2*page, 7*page)},
		"offset wraps around":     {at(0x1000, 0x1000, page, 0), at(0x8000, 0x8000, page, 1<<64-page)},
		"empty":                   {at(0x1000, 0x1000, page, 0), at(0x8000, 0x8000, 0, 0)},
	} {
		if err := f.SetMemTable(table, []int{file, file}); err == nil {
			t.Errorf("%s: not refused", name)
			continue
		} else {
			f.refused(err)
		}
		r.works()
		if mapped(t) != maps {
			t.Errorf("%s: something of it stays mapped", name)
		}
	}
	if got := regions(f); len(got) != 1 || got[0].GPA != f.mem.GPA {
		t.Errorf("regions: %+v", got)
	}
}
