package vhost

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// guest is the memory of a driver with one ring: descriptors, avail, used and
// data in a page each.
type guest struct {
	fd     int
	mem    []byte
	region MemRegion
	kick   int
	call   int
	err    int
	avail  uint16
}

const (
	guestPage = 4096
	ringSize  = 16
)

// newGuest makes 4 pages of memory whose addresses begin at gpa.
func newGuest(t testing.TB, gpa memtable.GPA) *guest {
	t.Helper()
	fd, err := unix.MemfdCreate("test-guest", unix.MFD_CLOEXEC)
	ok(t, err)
	ok(t, unix.Ftruncate(fd, 4*guestPage))
	mem, err := unix.Mmap(fd, 0, 4*guestPage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	ok(t, err)
	g := &guest{fd: fd, mem: mem, region: MemRegion{GPA: gpa, UVA: memtable.UVA(gpa) + 0x7f00_0000_0000, Size: 4 * guestPage}}
	for _, n := range []*int{&g.kick, &g.call, &g.err} {
		*n, err = newEventfd()
		ok(t, err)
	}
	t.Cleanup(func() {
		unix.Munmap(mem)
		for _, fd := range []int{fd, g.kick, g.call, g.err} {
			unix.Close(fd)
		}
	})
	return g
}

// addr is what SET_VRING_ADDR says for ring i.
func (g *guest) addr(i int) VringAddr {
	return VringAddr{
		Index: uint32(i), Desc: g.region.UVA, Avail: g.region.UVA + guestPage, Used: g.region.UVA + 2*guestPage,
		Log: uint64(g.region.GPA) + 2*guestPage,
	}
}

// start starts ring i in g's memory, in QEMU's order.
func (g *guest) start(t testing.TB, c *Conn, i int, base virtio.Position) {
	t.Helper()
	ok(t, c.SetVringNum(i, ringSize))
	ok(t, c.SetVringBase(i, base))
	ok(t, c.SetVringAddr(g.addr(i)))
	ok(t, c.SetVringErr(i, g.err))
	ok(t, c.SetVringKick(i, g.kick))
	ok(t, c.SetVringCall(i, g.call))
	ok(t, c.SetVringEnable(i, true))
}

// post makes one writable buffer of 64 bytes available. The kick that follows
// is a system call: it orders the stores.
func (g *guest) post() {
	g.postHead(g.avail % ringSize)
}

// postHead makes the chain at head available, which may be a lie.
func (g *guest) postHead(head uint16) {
	slot := g.avail % ringSize
	d := g.mem[int(slot)*16:]
	order.PutUint64(d, uint64(g.region.GPA)+3*guestPage+uint64(slot)*64)
	order.PutUint32(d[8:], 64)
	order.PutUint32(d[12:], 2) // WRITE, no next
	avail := g.mem[guestPage:]
	order.PutUint16(avail[4+2*int(slot):], head)
	g.avail++
	order.PutUint16(avail[2:], g.avail)
	_ = addEventfd(g.kick)
}

// takeBack makes nothing available but what came back, as a driver does that
// resets its ring.
func (g *guest) takeBack() {
	g.avail = g.used()
	order.PutUint16(g.mem[guestPage+2:], g.avail)
}

// used is used.idx.
func (g *guest) used() uint16 { return order.Uint16(g.mem[2*guestPage+2:]) }

// filled posts a buffer and waits until the device has filled it.
func (g *guest) filled(t testing.TB) {
	t.Helper()
	g.post()
	eventually(t, "the buffer comes back", func() bool { return g.used() == g.avail })
	slot := int(g.avail-1) % ringSize
	if b := g.mem[3*guestPage+64*slot:][:64]; !bytes.Equal(b, bytes.Repeat([]byte{0xaa}, 64)) {
		t.Fatalf("the buffer holds %x", b)
	}
}
