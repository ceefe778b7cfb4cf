package conformance

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// le is the byte order of rings (virtio 1.2, 1.4).
var le = binary.LittleEndian

// A ring of these tests: the three parts and the data have a page each, so what
// one page is in, another is not.
const (
	page      = 4096
	ringSize  = 16
	bufBytes  = page / ringSize
	descAt    = 0
	availAt   = page
	usedAt    = 2 * page
	dataAt    = 3 * page
	ringBytes = 4 * page
)

// Descriptor flags (virtio 1.2, 2.7.5).
const (
	flagNext     = 1
	flagWrite    = 2
	flagIndirect = 4
)

// memory is a piece of guest memory: a region to announce, its file, and our
// own view of it.
type memory struct {
	vhost.MemRegion
	fd int
	b  []byte
}

// newFile makes a memfd of size bytes, as QEMU's memory-backend-memfd does but
// not sealed.
func newFile(t testing.TB, size uint64) (fd int) {
	t.Helper()
	fd, err := unix.MemfdCreate("conformance", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.Ftruncate(fd, int64(size)))
	return fd
}

// newMemory makes the region r in a file of its own.
func newMemory(t testing.TB, r vhost.MemRegion) *memory {
	t.Helper()
	return memoryIn(t, newFile(t, r.Offset+r.Size), r)
}

// memoryIn views the region r of a file, which stays the caller's.
func memoryIn(t testing.TB, fd int, r vhost.MemRegion) *memory {
	t.Helper()
	b, err := unix.Mmap(fd, int64(r.Offset), int(r.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	t.Cleanup(func() { unix.Munmap(b) })
	return &memory{r, fd, b}
}

// ring is the driver's side of one ring, laid out in a piece of memory. What it
// tells the back-end it says in methods of its own; nothing is said by making it.
type ring struct {
	f               *front
	mem             *memory
	at              int // where it begins in mem
	index           int
	kick, call, err int    // eventfds
	avail           uint16 // avail.idx
}

// ring makes ring i in the shared memory.
func (f *front) ring(i int) *ring {
	f.t.Helper()
	return f.ringIn(f.mem, i*ringBytes, i)
}

// ringIn makes ring i in mem, from offset at on.
func (f *front) ringIn(mem *memory, at, i int) *ring {
	f.t.Helper()
	return &ring{f: f, mem: mem, at: at, index: i, kick: newEventfd(f.t), call: newEventfd(f.t), err: newEventfd(f.t)}
}

// addr is what SET_VRING_ADDR says of the ring.
func (r *ring) addr() vhost.VringAddr {
	at := r.mem.UVA + memtable.UVA(r.at)
	return vhost.VringAddr{
		Index: uint32(r.index), Desc: at + descAt, Avail: at + availAt, Used: at + usedAt,
		Log: r.gpa(usedAt),
	}
}

// gpa is the guest address of an offset into the ring's four pages.
func (r *ring) gpa(off int) uint64 { return uint64(r.mem.GPA) + uint64(r.at+off) }

// bytes is what lies at an offset into the ring's four pages.
func (r *ring) bytes(off int) []byte { return r.mem.b[r.at+off:] }

// configure says all of the ring but its kick: it does not start.
func (r *ring) configure() {
	r.f.t.Helper()
	must(r.f.t, r.f.SetVringNum(r.index, ringSize))
	must(r.f.t, r.f.SetVringBase(r.index, virtio.Position(r.avail)))
	must(r.f.t, r.f.SetVringAddr(r.addr()))
	must(r.f.t, r.f.SetVringErr(r.index, r.err))
	must(r.f.t, r.f.SetVringCall(r.index, r.call))
}

// start configures, starts and enables the ring.
func (r *ring) start() {
	r.f.t.Helper()
	r.configure()
	must(r.f.t, r.f.SetVringKick(r.index, r.kick))
	must(r.f.t, r.f.SetVringEnable(r.index, true))
}

// stop stops the ring and gives where it would go on.
func (r *ring) stop() uint16 {
	r.f.t.Helper()
	p, err := r.f.GetVringBase(r.index)
	must(r.f.t, err)
	return uint16(p)
}

// desc writes descriptor i of the table.
func (r *ring) desc(i uint16, addr uint64, n uint32, flags, next uint16) {
	putDesc(r.bytes(descAt)[16*int(i):], addr, n, flags, next)
}

func putDesc(b []byte, addr uint64, n uint32, flags, next uint16) {
	le.PutUint64(b, addr)
	le.PutUint32(b[8:], n)
	le.PutUint16(b[12:], flags)
	le.PutUint16(b[14:], next)
}

// offer makes a head available without a kick.
func (r *ring) offer(head uint16) {
	le.PutUint16(r.bytes(availAt)[4+2*int(r.avail%ringSize):], head)
	r.setAvail(r.avail + 1)
}

// setAvail writes avail.idx, and 0 into avail.flags.
func (r *ring) setAvail(idx uint16) {
	r.avail = idx
	store32(r.bytes(availAt), uint32(idx)<<16)
}

// ringKick kicks.
func (r *ring) ringKick() { signal(r.kick) }

// slot is the buffer that goes with descriptor i.
func (r *ring) slot(i uint16) []byte { return r.bytes(dataAt)[bufBytes*int(i):][:bufBytes] }

// post makes a buffer of bufBytes available for the device to fill, and kicks.
func (r *ring) post() (head uint16) {
	head = r.avail % ringSize
	clear(r.slot(head))
	r.desc(head, r.gpa(dataAt+bufBytes*int(head)), bufBytes, flagWrite, 0)
	r.offer(head)
	r.ringKick()
	return head
}

// used is used.idx.
func (r *ring) used() uint16 { return uint16(load32(r.bytes(usedAt)) >> 16) }

// elem is the used element at free-running index i.
func (r *ring) elem(i uint16) (head, n uint32) {
	e := r.bytes(usedAt)[4+8*int(i%ringSize):]
	return le.Uint32(e), le.Uint32(e[4:])
}

// returned waits until all that was made available came back.
func (r *ring) returned() {
	r.f.t.Helper()
	eventually(r.f.t, "all chains come back", func() bool { return r.used() == r.avail })
}

// works fails unless a buffer that is posted comes back filled.
func (r *ring) works() {
	r.f.t.Helper()
	head := r.post()
	r.returned()
	if id, n := r.elem(r.avail - 1); id != uint32(head) || n != bufBytes {
		r.f.t.Fatalf("head %d of %d bytes came back, want %d of %d", id, n, head, bufBytes)
	}
	if !bytes.Equal(r.slot(head), bytes.Repeat([]byte{fill}, bufBytes)) {
		r.f.t.Fatalf("the buffer holds %x…", r.slot(head)[:16])
	}
}
