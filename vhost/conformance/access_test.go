package conformance

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
)

// returnsEmpty fails unless a chain of one descriptor comes back with length 0,
// unread and unwritten, and the ring goes on.
func (r *ring) returnsEmpty(d *device, addr uint64, n uint32, flags uint16) {
	r.f.t.Helper()
	d.got()
	r.desc(0, addr, n, flags, 0)
	r.offer(0)
	r.ringKick()
	r.returned()
	if head, n := r.elem(r.avail - 1); head != 0 || n != 0 {
		r.f.t.Errorf("at %#x: head %d came back with length %d, want 0 and 0", addr, head, n)
	}
	if got := d.got(); len(got) != 0 {
		r.f.t.Errorf("at %#x the device read %.32q", addr, got)
	}
	r.works()
}

// Rule 43 (virtio 1.2, 2.7.4; vhost-user, Memory access): A buffer may cross
// from one region into another that touches it. One that crosses into a hole
// costs its own request only.
func TestBufferCrossesRegionsThatTouch(t *testing.T) {
	d := entropy()
	f := plug(t, d, options{})
	first := newMemory(t, region(0x10_0000, 1))
	second := newMemory(t, vhost.MemRegion{GPA: 0x10_0000 + page, UVA: 0x90_0000 + userShift, Size: page})
	must(t, f.AddMemReg(first.MemRegion, first.fd))
	must(t, f.AddMemReg(second.MemRegion, second.fd))
	r := f.ring(0)
	r.start()
	copy(first.b[page-5:], "begin")
	copy(second.b, " and end")
	r.reads(d, 0x10_0000+page-5, []byte("begin and end"))

	r.desc(0, 0x10_0000+page-8, 24, flagWrite, 0)
	r.offer(0)
	r.ringKick()
	r.returned()
	if !bytes.Equal(first.b[page-8:], bytes.Repeat([]byte{fill}, 8)) || !bytes.Equal(second.b[:17], append(bytes.Repeat([]byte{fill}, 16), 0)) {
		t.Errorf("across the boundary the device wrote %x and %x", first.b[page-8:], second.b[:17])
	}
	r.returnsEmpty(d, 0x10_0000+2*page-8, 16, 0)
	r.returnsEmpty(d, 0x10_0000+2*page-8, 16, flagWrite)
	if second.b[page-1] != 0 {
		t.Error("a buffer that ends in a hole was written")
	}
}

// Rule 44 (QEMU): A descriptor may name guest memory that is not shared, such
// as a memory device without a file. Its request fails and no memory is touched.
func TestAddressOutsideOfTheTableFailsTheRequest(t *testing.T) {
	d := entropy()
	f := plug(t, d, options{})
	r := f.ring(0)
	r.start()
	r.works()
	behind := uint64(f.mem.GPA) + f.mem.Size
	for _, addr := range []uint64{0, behind, uint64(f.mem.GPA) - 1, uint64(f.mem.UVA), 8 << 40} {
		r.returnsEmpty(d, addr, 64, 0)
		r.returnsEmpty(d, addr, 64, flagWrite)
	}
}

// Rule 45★ (virtio 1.2, 2.7.5): An address whose range runs past 2^64 is
// refused, in a descriptor, in a region and in a ring's address alike.
func TestRangeBeyondTheAddressSpaceIsRefused(t *testing.T) {
	d := entropy()
	f := plug(t, d, options{})
	// The range's end lies in a region when it is not looked at as such.
	zero := newMemory(t, vhost.MemRegion{GPA: 0, UVA: 0x90_0000 + userShift, Size: page})
	must(t, f.AddMemReg(zero.MemRegion, zero.fd))
	top := newMemory(t, vhost.MemRegion{GPA: 1<<64 - 2*page, UVA: 0xa0_0000 + userShift, Size: page})
	must(t, f.AddMemReg(top.MemRegion, top.fd))
	r := f.ring(0)
	r.start()
	for _, flags := range []uint16{0, flagWrite} {
		r.returnsEmpty(d, 1<<64-16, 32, flags)
		r.returnsEmpty(d, 1<<64-2*page, 3*page, flags)
		r.returnsEmpty(d, uint64(f.mem.GPA), 1<<32-1, flags)
	}
	if !bytes.Equal(zero.b, make([]byte, page)) || !bytes.Equal(top.b, make([]byte, page)) {
		t.Error("a range that wraps around was written")
	}
	file := newFile(t, 4*page)
	f.refused(f.AddMemReg(vhost.MemRegion{GPA: 1<<64 - page, UVA: 0xb0_0000 + userShift, Size: 2 * page}, file))
	f.refused(f.AddMemReg(vhost.MemRegion{GPA: 0x90_0000, UVA: 1<<64 - page, Size: 2 * page}, file))
	f.refused(f.AddMemReg(vhost.MemRegion{GPA: 0x90_0000, UVA: 0xb0_0000 + userShift, Size: 1<<64 - page}, file))
}

// Rule 46★ (vhost-user, Memory access): A file that is cut short while it is in
// use costs the connection that shared it; the back-end, and its other
// connections, live.
func TestTruncatedFileCostsItsConnection(t *testing.T) {
	neighbour := plug(t, entropy(), options{})
	beside := neighbour.ring(0)
	beside.start()
	for _, where := range []string{"ring", "buffer"} {
		t.Run(where, func(t *testing.T) {
			f := plug(t, entropy(), options{})
			mem := newMemory(t, region(0x10_0000, 4*ringBytes/page))
			must(t, f.AddMemReg(mem.MemRegion, mem.fd))
			r := f.ring(0)
			if where == "ring" {
				r = f.ringIn(mem, 0, 0)
			}
			r.start()
			r.works()
			r.desc(0, uint64(mem.GPA)+ringBytes, 64, flagWrite, 0)
			r.desc(1, uint64(mem.GPA)+ringBytes, 64, flagWrite, 0)
			if where == "buffer" {
				r.offer(1)
			}
			must(t, unix.Ftruncate(mem.fd, 0))
			r.ringKick()
			if err := f.closed(); !isFault(err) {
				t.Errorf("the session ended with %v", err)
			}
			again := f.b.dial()
			again.agree(options{})
			again.share()
			s := again.ring(0)
			s.start()
			s.works()
			beside.works()
		})
	}
}

func isFault(err error) bool {
	_, is := errors.AsType[*memtable.FaultError](err)
	return is
}

// Rule 47 (QEMU): Memory need not be sealed against shrinking: a memfd without
// seals and a file in /dev/shm are taken, as is a memfd with the seals that
// QEMU's memory-backend-memfd has.
func TestMemoryIsTakenSealedOrNot(t *testing.T) {
	f := plug(t, entropy(), options{})
	shm, err := os.CreateTemp("/dev/shm", "conformance")
	if err != nil {
		t.Skip("needs /dev/shm: ", err)
	}
	defer shm.Close()
	must(t, os.Remove(shm.Name()))
	must(t, shm.Truncate(4*ringBytes))
	sealed := newFile(t, 4*ringBytes)
	_, err = unix.FcntlInt(uintptr(sealed), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	must(t, err)
	for i, fd := range []int{newFile(t, 4*ringBytes), int(shm.Fd()), sealed} {
		m := memoryIn(t, fd, region(memtable.GPA(i+1)<<24, 4*ringBytes/page))
		must(t, f.AddMemReg(m.MemRegion, fd))
		r := f.ringIn(m, 0, 0)
		r.start()
		r.works()
		r.stop()
	}
}
