package vhost

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// extentBytes is the size of a supply's extents.
const extentBytes = 64 << 10

// supply is a source of memory with a file of n extents, of which the test says
// which ones there are.
type supply struct {
	extents []memtable.Extent
	mem     []byte

	mu     sync.Mutex
	there  []memtable.Extent
	mirror memtable.Mirror
}

// newSupply makes a supply with the first few of n extents there.
func newSupply(t testing.TB, n, there int) *supply {
	t.Helper()
	fd, err := unix.MemfdCreate("test-supply", unix.MFD_CLOEXEC)
	ok(t, err)
	ok(t, unix.Ftruncate(fd, int64(n)*extentBytes))
	mem, err := unix.Mmap(fd, 0, n*extentBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	ok(t, err)
	id, err := fileID(fd)
	ok(t, err)
	t.Cleanup(func() {
		unix.Munmap(mem)
		unix.Close(fd)
	})
	s := &supply{mem: mem}
	va := memtable.Wrap(mem, id, 0, nil).VA()
	for i := range n {
		at := va.Add(uint64(i) * extentBytes)
		s.extents = append(s.extents, memtable.Extent{
			VA: at, Addr: memtable.IOVA(at.UVA()), Size: extentBytes, File: id, FD: fd, Offset: int64(i) * extentBytes, Page: 4096,
		})
	}
	s.there = slices.Clone(s.extents[:there])
	return s
}

// Follow implements memtable.Source.
func (s *supply) Follow(ctx context.Context, m memtable.Mirror) (func(context.Context) error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mirror != nil {
		return nil, errors.New("followed already")
	}
	if err := m.Arrive(ctx, s.there); err != nil {
		return nil, err
	}
	s.mirror = m
	return func(ctx context.Context) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mirror = nil
		return m.Leave(ctx, s.there)
	}, nil
}

// arrive lets extents by their numbers arrive.
func (s *supply) arrive(ctx context.Context, numbers ...int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.pick(numbers)
	err := s.mirror.Arrive(ctx, e)
	if err == nil {
		s.there = append(s.there, e...)
	}
	return err
}

// leave lets extents by their numbers leave.
func (s *supply) leave(ctx context.Context, numbers ...int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.pick(numbers)
	err := s.mirror.Leave(ctx, e)
	if err == nil {
		s.there = slices.DeleteFunc(s.there, func(x memtable.Extent) bool { return slices.Contains(e, x) })
	}
	return err
}

func (s *supply) pick(numbers []int) (e []memtable.Extent) {
	for _, i := range numbers {
		e = append(e, s.extents[i])
	}
	return e
}

// buf is n bytes at off in the supply's memory.
func (s *supply) buf(off, n int) memtable.Buf {
	e := s.extents[off/extentBytes]
	in := off % extentBytes
	return memtable.Buf{VA: e.VA.Add(uint64(in)), Addr: e.Addr + memtable.IOVA(in), Len: uint32(n), Cap: uint32(n)}
}

// handDriver is a driver with one ring that it writes by hand, at an offset of
// its supply: descriptors, avail, used and data in a page each.
type handDriver struct {
	f     *Frontend
	s     *supply
	queue int
	off   int
	line  virtio.Line
	avail uint16
}

func newHandDriver(f *Frontend, s *supply, queue, off int) *handDriver {
	return &handDriver{f: f, s: s, queue: queue, off: off}
}

func (d *handDriver) placement(base virtio.Position) virtio.Placement {
	return virtio.Placement{
		Size: ringSize, Position: base,
		Desc: d.s.buf(d.off, guestPage), Avail: d.s.buf(d.off+guestPage, guestPage), Used: d.s.buf(d.off+2*guestPage, guestPage),
	}
}

// connect connects the ring, as it is.
func (d *handDriver) connect(t testing.TB, base virtio.Position) {
	t.Helper()
	line, err := d.f.Connect(t.Context(), d.queue, d.placement(base))
	ok(t, err)
	d.line = line
}

// fresh connects the ring, empty.
func (d *handDriver) fresh(t testing.TB) {
	t.Helper()
	clear(d.s.mem[d.off:][:3*guestPage])
	d.avail = 0
	d.connect(t, 0)
}

// post makes a writable buffer of 64 bytes available, and kicks.
func (d *handDriver) post() {
	slot := d.avail % ringSize
	data := d.s.buf(d.off+3*guestPage+64*int(slot), 64)
	desc := d.s.mem[d.off+16*int(slot):]
	order.PutUint64(desc, uint64(data.Addr))
	order.PutUint32(desc[8:], 64)
	order.PutUint32(desc[12:], 2) // WRITE, no next
	avail := d.s.mem[d.off+guestPage:]
	order.PutUint16(avail[4+2*int(slot):], slot)
	d.avail++
	order.PutUint16(avail[2:], d.avail)
	d.line.Ring()
}

func (d *handDriver) used() uint16 { return order.Uint16(d.s.mem[d.off+2*guestPage+2:]) }

// serves fails unless the device fills a buffer and calls.
func (d *handDriver) serves(t testing.TB) {
	t.Helper()
	d.post()
	within(t, "a call", func() {
		for d.used() != d.avail {
			if err := d.line.Wait(t.Context()); err != nil {
				t.Errorf("waiting for a call: %v", err)
				return
			}
		}
	})
	if slot := int(d.avail-1) % ringSize; d.s.mem[d.off+3*guestPage+64*slot] != 0xaa {
		t.Fatal("the buffer was not filled")
	}
}

// event fails unless the next event is of that kind.
func event(t testing.TB, f *Frontend, kind virtio.TransportEventKind) (e virtio.TransportEvent) {
	t.Helper()
	within(t, "an event", func() { e = <-f.Events() })
	if e.Kind != kind {
		t.Fatalf("event %+v, want kind %d", e, kind)
	}
	return e
}
