package vnet_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
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
	serving  sync.Mutex   // either the device is served, or it is changed
	refuse   atomic.Int32 // so many rings more are not connected
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
	if l.refuse.Add(-1) >= 0 {
		return nil, errTest
	}
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
	l.serving.Lock()
	defer l.serving.Unlock()
	for i, q := range l.queues {
		part := func(b memtable.Buf) []byte { return b.VA.Bytes(uint64(b.Len)) }
		p := l.places[i]
		ring := virtio.Ring{Size: p.Size, Desc: part(p.Desc), Avail: part(p.Avail), Used: part(p.Used)}
		q.SetPosition(p.Position, virtio.UsedIndex(ring))
		q.Configure(&virtio.View{Ring: ring, Mem: table, Features: l.features})
	}
	return nil
}

// Disconnect is what it cannot do: a driver has to reset it.
func (l *loop) Disconnect(context.Context, int) (virtio.Position, error) {
	return 0, errors.ErrUnsupported
}

func (l *loop) Reset(context.Context) error {
	l.serving.Lock()
	defer l.serving.Unlock()
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
	l.serving.Lock()
	defer l.serving.Unlock()
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

// newLoopDriver is a driver over a loop, both closed at the end.
func newLoopDriver(t testing.TB, change func(vnet.Change)) (*loop, *vnet.Driver) {
	t.Helper()
	arena, err := memfd.New(memfd.Options{NoHuge: true})
	ok(t, err)
	heap, err := arena.Heap("rings", memfd.HeapOptions{Shared: true, Node: memfd.AnyNode})
	ok(t, err)
	pool, err := arena.Pool(t.Context(), "frames", memfd.PoolOptions{Size: 2048, Count: 1024, Node: memfd.AnyNode})
	ok(t, err)
	f := virtio.FeatureVersion1 | virtio.FeatureInOrder | virtio.FeatureIndirect | vnet.FeatureMrgRxbuf
	l := newLoop(arena, f)
	var caches []*memfd.Cache
	d, err := vnet.Open(t.Context(), vnet.DriverConfig{
		Transport: l, Rings: heap, Memory: arena, OnChange: change,
		Buffers: func(int) vnet.Buffers {
			caches = append(caches, pool.Cache())
			return caches[len(caches)-1]
		},
	})
	ok(t, err)
	t.Cleanup(func() {
		ok(t, d.Close(context.Background()))
		for _, c := range caches {
			c.Close()
		}
		ok(t, errors.Join(l.Close(), pool.Close(), heap.Close(), arena.Close()))
	})
	return l, d
}

// round sends and receives one burst, and says whether all of it went.
func (l *loop) round(d *vnet.Driver) bool {
	bufs, frames := make([]memtable.Buf, burst), make([]vnet.Frame, burst)
	bufs = bufs[:d.Tx(0).Get(bufs)]
	for i := range bufs {
		bufs[i].Len = vnet.Headroom + 60
	}
	n := d.Tx(0).Send(bufs)
	d.Tx(0).Put(bufs[n:])
	if n == 0 {
		return false
	}
	sent := l.take()
	got := l.give(60)
	d.Rx(0).Release(frames[:d.Rx(0).Receive(frames)])
	return sent == n && got == burst
}

// A device that cannot be brought up when it is back, or when it asked for a
// reset, is tried again until it can.
func TestADeviceThatIsNotReadyIsTriedAgain(t *testing.T) {
	for name, events := range map[string][]virtio.TransportEventKind{
		"back":  {virtio.Lost, virtio.Back},
		"reset": {virtio.NeedsReset},
	} {
		t.Run(name, func(t *testing.T) {
			var broken atomic.Int32
			l, d := newLoopDriver(t, func(c vnet.Change) {
				if errors.Is(c.Err, errTest) {
					broken.Add(1)
				}
			})
			if !l.round(d) {
				t.Fatal("frames do not go")
			}
			l.refuse.Store(3)
			for _, e := range events {
				l.events <- virtio.TransportEvent{Kind: e}
			}
			eventually(t, "three attempts failed", func() bool { return broken.Load() == 3 })
			eventually(t, "frames go again", func() bool { return d.Stats().Present && l.round(d) })
		})
	}
}

// Where the transport cannot take one ring back, a lie in it resets the device.
func TestALieResetsADeviceWhoseRingsCannotBeTakenBack(t *testing.T) {
	l, d := newLoopDriver(t, nil)
	if !l.round(d) {
		t.Fatal("frames do not go")
	}
	element(l.places[1].Used.VA.Bytes(uint64(l.places[1].Used.Len)), 0xffff, 0)
	d.Tx(0).Reap()
	eventually(t, "the device was reset", func() bool { return d.Stats().Restarts == 1 })
	eventually(t, "frames go again", func() bool { return l.round(d) })
}
