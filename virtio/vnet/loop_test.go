package vnet_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// loop is a transport whose device is served by who calls step, in the same
// goroutine: what is measured with it is work, and nobody is waited for. It has
// the methods of a virtio.Transport and no other ability.
type loop struct {
	arena    *memfd.Arena
	features virtio.Features
	events   chan virtio.TransportEvent
	queues   [2]*virtio.Queue
	places   [2]virtio.Placement
	worker   *memtable.Reader
	in, out  virtio.Burst
	closing  sync.Once
}

func newLoop(a *memfd.Arena, f virtio.Features) *loop {
	l := &loop{arena: a, features: f, events: make(chan virtio.TransportEvent), worker: new(memtable.Domain).Join("device")}
	for i := range l.queues {
		l.queues[i] = virtio.NewQueue(virtio.QueueOptions{Index: i})
	}
	return l
}

func (l *loop) Features() virtio.Features                      { return l.features }
func (l *loop) Accept(context.Context, virtio.Features) error  { return nil }
func (l *loop) Queues() int                                    { return len(l.queues) }
func (l *loop) QueueMax(int) uint16                            { return 1024 }
func (l *loop) Enable(context.Context, int, bool) error        { return nil }
func (l *loop) ReadConfig(context.Context, int, []byte) error  { return errors.ErrUnsupported }
func (l *loop) WriteConfig(context.Context, int, []byte) error { return errors.ErrUnsupported }
func (l *loop) Events() <-chan virtio.TransportEvent           { return l.events }

func (l *loop) Connect(_ context.Context, i int, p virtio.Placement) (virtio.Line, error) {
	l.places[i] = p
	return quietLine{}, nil
}

// quietLine is for who only polls.
type quietLine struct{}

func (quietLine) Ring()                          {}
func (quietLine) Wait(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }

func (l *loop) Start(context.Context) error {
	var regions []memtable.Region[memtable.GPA]
	for _, r := range l.arena.ByIOVA(nil).Regions() {
		regions = append(regions, memtable.Region[memtable.GPA]{Addr: memtable.GPA(r.Addr), Size: r.Size, Mem: r.Mem, Skip: r.Skip})
	}
	table, err := memtable.New(regions, memtable.Options{})
	if err != nil {
		return err
	}
	for i, q := range l.queues {
		part := func(b memtable.Buf) []byte { return b.VA.Bytes(uint64(b.Len)) }
		p := l.places[i]
		q.Configure(&virtio.View{
			Ring: virtio.Ring{Size: p.Size, Desc: part(p.Desc), Avail: part(p.Avail), Used: part(p.Used)}, Mem: table, Features: l.features,
		})
	}
	return nil
}

func (l *loop) Disconnect(_ context.Context, i int) (virtio.Position, error) {
	l.queues[i].Configure(nil)
	return l.queues[i].Position(), nil
}

func (l *loop) Reset(context.Context) error {
	for i := range l.queues {
		l.queues[i].Configure(nil)
	}
	return nil
}

func (l *loop) Close() error {
	l.closing.Do(func() { close(l.events) })
	return nil
}

// take uses up what was sent, and says how many frames it was.
func (l *loop) take() int { return l.serve(1, &l.in, virtio.Readable, 0) }

// give fills up to a burst of buffers with frames of size bytes.
func (l *loop) give(size uint32) int { return l.serve(0, &l.out, virtio.Writable, size) }

func (l *loop) serve(i int, b *virtio.Burst, d virtio.Dir, size uint32) int {
	q := l.queues[i]
	l.worker.Enter()
	defer l.worker.Leave()
	if q.Begin(l.worker) != virtio.Open {
		return 0
	}
	defer q.End()
	n := q.Take(b, d, burst)
	for k := range n {
		if e := &b.Elem[k]; size > 0 {
			vnet.Header{NumBuffers: 1}.Encode((*[vnet.MaxHeader]byte)(e.VA.Bytes(vnet.MaxHeader)))
			e.Wrote = vnet.Headroom + size
		}
	}
	q.Put(b)
	q.Publish()
	return n
}

const burst = 32

// BenchmarkDriver is bursts of 32 frames through a driver whose device is the
// same goroutine, so that what it does is in the figures.
func BenchmarkDriver(b *testing.B) {
	arena, err := memfd.New(memfd.Options{NoHuge: true})
	ok(b, err)
	heap, err := arena.Heap("rings", memfd.HeapOptions{Shared: true, Node: memfd.AnyNode})
	ok(b, err)
	pool, err := arena.Pool(b.Context(), "frames", memfd.PoolOptions{Size: 2048, Count: 1024, Node: memfd.AnyNode})
	ok(b, err)
	f := virtio.FeatureVersion1 | virtio.FeatureInOrder | virtio.FeatureIndirect | vnet.FeatureMrgRxbuf
	l := newLoop(arena, f)
	caches := map[int]*memfd.Cache{}
	d, err := vnet.Open(b.Context(), vnet.DriverConfig{
		Transport: l, Rings: heap, Memory: arena,
		Buffers: func(ring int) vnet.Buffers { caches[ring] = pool.Cache(); return caches[ring] },
	})
	ok(b, err)
	b.Cleanup(func() {
		ok(b, d.Close(context.Background()))
		caches[0].Close()
		caches[1].Close()
		ok(b, errors.Join(l.Close(), pool.Close(), heap.Close(), arena.Close()))
	})
	perFrame := func(b *testing.B) {
		b.ReportAllocs()
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/burst, "ns/frame")
	}
	bufs, frames := make([]memtable.Buf, burst), make([]vnet.Frame, burst)
	tx, rx := d.Tx(0), d.Rx(0)
	b.Run("send", func(b *testing.B) {
		for b.Loop() {
			tx.Get(bufs)
			for i := range bufs {
				bufs[i].Len = vnet.Headroom + 60
			}
			if tx.Send(bufs) != burst || l.take() != burst {
				b.Fatal("not all frames were sent")
			}
		}
		perFrame(b)
	})
	b.Run("receive", func(b *testing.B) {
		for b.Loop() {
			if l.give(60) != burst || rx.Receive(frames) != burst {
				b.Fatal("not all frames were received")
			}
			rx.Release(frames)
		}
		perFrame(b)
	})
	b.Run("forward", func(b *testing.B) {
		for b.Loop() {
			l.give(60)
			if n := rx.Receive(frames); tx.SendFrames(frames[:n]) != burst || l.take() != burst {
				b.Fatal("not all frames were sent on")
			}
		}
		perFrame(b)
	})
}
