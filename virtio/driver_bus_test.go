package virtio_test

import (
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// bus is memory that a driver's queue shares with its device, and the queue.
type bus struct {
	q    *virtio.DriverQueue
	o    virtio.DriverOptions
	mem  *virtiotest.Memory
	iova *memtable.Table[memtable.IOVA]
	kick *virtiotest.Bell // rung by the driver
	call *virtiotest.Bell // rung by the device
}

// busOptions says what there is on a bus.
type busOptions struct {
	size     uint16
	features virtio.Features
	start    uint16 // where both indices begin
	slots    int    // buffers that an indirect table has room for
	bytes    uint64 // of buffers
	file     bool   // memory that the race detector does not see
}

// ByIOVA implements virtio.DriverMemory.
func (b *bus) ByIOVA(*memtable.Reader) *memtable.Table[memtable.IOVA] { return b.iova }

// newBus makes a queue. Its memory is one region, at an address that is not the
// one here.
func newBus(tb testing.TB, o busOptions) *bus {
	tb.Helper()
	tables := uint64(o.slots) * uint64(o.size) * 16
	total := (virtio.RingBytes(o.size) + tables + o.bytes + 32<<10) &^ 4095
	mem := virtiotest.NewMemory(tb, virtiotest.MemoryOptions{
		Areas: []virtiotest.Area{{Addr: 0x7_0000_0000, Size: total}}, File: o.file,
	})
	var regions []memtable.Region[memtable.IOVA]
	for _, r := range mem.Table().Regions() {
		regions = append(regions, memtable.Region[memtable.IOVA]{Addr: memtable.IOVA(r.Addr), Size: r.Size, Mem: r.Mem})
	}
	iova, err := memtable.New(regions, memtable.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	b := &bus{mem: mem, iova: iova, kick: virtiotest.NewBell(), call: virtiotest.NewBell()}
	place, err := virtio.PlaceRing(b.alloc(tb, virtio.RingBytes(o.size), 64), o.size)
	if err != nil {
		tb.Fatal(err)
	}
	place.Position = virtio.Position(o.start)
	b.o = virtio.DriverOptions{Features: o.features | virtio.FeatureVersion1, Placement: place, Memory: b}
	if o.slots > 0 {
		b.o.Indirect = b.alloc(tb, tables, 16)
	}
	if b.q, err = virtio.NewDriverQueue(b.o); err != nil {
		tb.Fatal(err)
	}
	b.q.Connect(b.kick)
	return b
}

// alloc gives memory as an arena's heap does.
func (b *bus) alloc(tb testing.TB, n, align uint64) memtable.Buf {
	tb.Helper()
	a, err := b.mem.Alloc(n, align)
	if err != nil {
		tb.Fatal(err)
	}
	va, ok := b.iova.At(memtable.IOVA(a.Addr), n)
	if !ok {
		tb.Fatalf("nothing at %#x", a.Addr)
	}
	return memtable.Buf{VA: va, Addr: memtable.IOVA(a.Addr), Cap: uint32(n)}
}

// bufs gives n buffers of size bytes, full for reading, whose tokens count from
// first.
func (b *bus) bufs(tb testing.TB, n int, size uint64, first uint64) []memtable.Buf {
	tb.Helper()
	all := make([]memtable.Buf, n)
	for i := range all {
		all[i] = b.alloc(tb, size, 16)
		all[i].Len, all[i].Token = uint32(size), first+uint64(i)
	}
	return all
}

// ring is the ring as the device finds it.
func (b *bus) ring() virtio.Ring {
	part := func(p memtable.Buf) []byte { return p.VA.Bytes(uint64(p.Cap)) }
	p := b.o.Placement
	return virtio.Ring{Size: p.Size, Desc: part(p.Desc), Avail: part(p.Avail), Used: part(p.Used)}
}

// device makes this module's device of the ring, at the position that the
// driver tells.
func (b *bus) device() *station {
	s := &station{q: virtio.NewQueue(virtio.QueueOptions{}), domain: new(memtable.Domain)}
	s.reader = s.domain.Join("device")
	s.q.SetPosition(b.q.Where().Position, uint16(b.q.Where().Position))
	s.q.Configure(&virtio.View{
		Ring: b.ring(), Features: b.o.Features, Mem: b.mem.Table(), Call: b.call, Enabled: true,
	})
	return s
}

// station is a device's end of a bus.
type station struct {
	q      *virtio.Queue
	domain *memtable.Domain
	reader *memtable.Reader
	b      virtio.Burst
}

// serve takes up to n chains and puts them back; each writable one is filled, its
// length cut by less bytes.
func (s *station) serve(n int, d virtio.Dir, less uint32) (served int) {
	s.reader.Enter()
	defer s.reader.Leave()
	if s.q.Begin(s.reader) != virtio.Open {
		return 0
	}
	defer s.q.End()
	served = s.q.Take(&s.b, d, n)
	for i := range served {
		e := &s.b.Elem[i]
		if d == virtio.Writable {
			e.Wrote = e.Total - min(e.Total, less)
		}
	}
	s.q.Put(&s.b)
	if s.q.Publish() {
		s.q.Call()
	}
	return served
}
