package vnet_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually fails unless cond holds within patience.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// rigOptions says what a rig is made of.
type rigOptions struct {
	pairs    int    // of device and driver; 0: 1
	buffer   uint32 // bytes; 0: 2048
	count    int    // buffers; 0: 1024 for each pair
	protocol vhost.ProtocolFeatures
	device   func(*echo)
	driver   func(*vnet.DriverConfig)
}

// rig is a driver, and its device in the same process behind a real socket.
type rig struct {
	*vnet.Driver
	t       testing.TB
	dev     *echo
	path    string
	end     func() // ends the server, and waits for it
	front   *vhost.Frontend
	arena   *memfd.Arena
	heap    *memfd.Heap
	pool    *memfd.Pool
	caches  []*memfd.Cache
	changes chan vnet.Change
	refused uint64 // buffers that the pool was given and that are not its own
	o       rigOptions
}

// newRig brings everything up; at the end of the test all must be back.
func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	if o.pairs == 0 {
		o.pairs = 1
	}
	if o.buffer == 0 {
		o.buffer = 2048
	}
	if o.count == 0 {
		o.count = 1024 * o.pairs
	}
	r := bareRig(t, o)
	cfg := r.config()
	var err error
	r.Driver, err = vnet.Open(t.Context(), cfg)
	ok(t, err)
	t.Cleanup(r.stop)
	return r
}

// bareRig is a rig without a driver.
func bareRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	here := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, here) })
	r := &rig{t: t, dev: newEcho(o.pairs), path: t.TempDir() + "/s", o: o, changes: make(chan vnet.Change, 10000)}
	if o.device != nil {
		o.device(r.dev)
	}
	r.serve()
	var err error
	r.arena, err = memfd.New(memfd.Options{NoHuge: true, Space: 256 << 20, Extent: 256 << 10, Linger: time.Millisecond})
	ok(t, err)
	t.Cleanup(func() { ok(t, r.arena.Close()) })
	r.heap, err = r.arena.Heap("rings", memfd.HeapOptions{Shared: true, Node: memfd.AnyNode})
	ok(t, err)
	t.Cleanup(func() { ok(t, r.heap.Close()) })
	r.pool, err = r.arena.Pool(t.Context(), "frames", memfd.PoolOptions{
		Size: o.buffer, Count: o.count, Resident: o.count / 2, Straddle: o.buffer > 4096, Node: memfd.AnyNode,
	})
	ok(t, err)
	t.Cleanup(r.balance)
	r.front, err = vhost.Dial(t.Context(), r.path, vhost.FrontendConfig{
		Device: virtio.Net, Memory: r.arena, Protocol: o.protocol, Backoff: 10 * time.Millisecond,
	})
	ok(t, err)
	t.Cleanup(func() {
		ok(t, r.front.Close())
		r.end()
	})
	return r
}

// serve starts a server at the rig's socket.
func (r *rig) serve() {
	r.t.Helper()
	l, err := vhost.Listen(r.path, vhost.ListenOptions{UID: -1, GID: -1})
	ok(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = (&vhost.Server{Device: r.dev}).Serve(ctx, l) })
	r.end = func() {
		cancel()
		running.Wait()
	}
}

// config is that of the rig's driver.
func (r *rig) config() vnet.DriverConfig {
	cfg := vnet.DriverConfig{
		Transport: r.front, Rings: r.heap, Memory: r.arena, Pairs: r.o.pairs,
		Buffers: func(ring int) vnet.Buffers {
			c := r.pool.Cache()
			if ring%2 == 0 {
				c = r.pool.ResidentCache()
			}
			r.caches = append(r.caches, c)
			return c
		},
		OnChange: func(c vnet.Change) { r.changes <- c },
	}
	if r.o.driver != nil {
		r.o.driver(&cfg)
	}
	return cfg
}

// stop ends the driver.
func (r *rig) stop() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ok(r.t, r.Close(ctx))
}

// balance fails unless every buffer is back, once.
func (r *rig) balance() {
	r.t.Helper()
	for _, c := range r.caches {
		c.Close()
	}
	if s := r.pool.Stats(); s.Lent != 0 || s.Refused != r.refused || s.Free != s.Count {
		r.t.Errorf("at the end %d of %d buffers are lent, %d free, %d were given back twice", s.Lent, s.Count, s.Free, s.Refused)
	}
	ok(r.t, r.pool.Close())
}

// change waits for a change of that kind.
func (r *rig) change(kind vnet.ChangeKind) vnet.Change {
	r.t.Helper()
	late := time.After(patience)
	for {
		select {
		case c := <-r.changes:
			if c.Kind == kind {
				return c
			}
		case <-late:
			r.t.Fatalf("not within %v: %v", patience, kind)
		}
	}
}

// worker sends numbered frames through pair i and knows which came back.
type worker struct {
	r    *rig
	pair int
	size int
	next uint64
	got  uint64
	in   []vnet.Frame
	out  []memtable.Buf
	old  bool // frames may be missing, or come twice
}

func (r *rig) worker(pair, size int) *worker {
	w := &worker{r: r, pair: pair, size: size, in: make([]vnet.Frame, 64), out: make([]memtable.Buf, 32)}
	return w
}

// frame gives the contents of frame n.
func (w *worker) frame(n uint64) []byte {
	f := bytes.Repeat([]byte{byte(n)}, w.size)
	copy(f, echoMAC[:])
	f[12], f[13] = 0x88, 0xb5
	binary.BigEndian.PutUint64(f[14:], n)
	return f
}

// send sends at most n frames, of one buffer each.
func (w *worker) send(n int) int {
	out := w.out[:min(n, len(w.out))]
	out = out[:w.r.Tx(w.pair).Get(out)]
	for i := range out {
		if !vnet.Load(&out[i], w.frame(w.next+uint64(i))) {
			w.r.t.Fatal("the frame does not fit")
		}
	}
	k := w.r.Tx(w.pair).Send(out)
	w.r.Tx(w.pair).Put(out[k:])
	w.next += uint64(k)
	return k
}

// receive takes what there is, and checks it.
func (w *worker) receive() (frames int) {
	n := w.r.Rx(w.pair).Receive(w.in)
	for i := 0; i < n; i++ {
		var data []byte
		for more := true; more; i++ {
			data = append(data, w.in[i].Data()...)
			more = w.in[i].More
		}
		i--
		w.check(data)
		frames++
	}
	w.r.Rx(w.pair).Release(w.in[:n])
	return frames
}

// check holds a frame against what was sent.
func (w *worker) check(data []byte) {
	if len(data) != w.size {
		w.r.t.Errorf("a frame of %d bytes came back with %d", w.size, len(data))
		return
	}
	n := binary.BigEndian.Uint64(data[14:])
	if !bytes.Equal(data, w.frame(n)) || !w.old && n != w.got || n >= w.next {
		w.r.t.Errorf("frame %d came instead of %d, or not as it was sent", n, w.got)
	}
	w.got = n + 1
}

// turn sends total frames and receives them all, with window of them on the way.
func (w *worker) turn(ctx context.Context, total, window int) {
	w.r.t.Helper()
	first := w.got
	for w.got-first < uint64(total) && !w.r.t.Failed() {
		onTheWay := w.next - w.got
		sent := w.send(min(window-int(onTheWay), total-int(w.next-first)))
		if w.receive() > 0 || sent > 0 {
			continue
		}
		wait := w.r.Rx(w.pair).Wait
		if w.next == w.got {
			wait = w.r.Tx(w.pair).Wait // nothing is on the way
		}
		if err := wait(ctx); err != nil {
			w.r.t.Errorf("%d of %d frames came back: %v, %+v", w.got-first, total, err, w.r.Stats())
			return
		}
	}
}

var errTest = errors.New("the test ends it")
