package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// Front is a front-end in Go: an arena, rings and buffers in it, and a network
// driver that has them over vhost-user.
type Front struct {
	t     testing.TB
	Arena *memfd.Arena
	Rings *memfd.Heap
	Pool  *memfd.Pool
	Link  *vhost.Frontend
	*vnet.Driver

	caches []*memfd.Cache // by ring
	bufs   []vnet.Buffers // by ring: mostly the same
	close  sync.Once

	mu      sync.Mutex
	changes []vnet.Change
}

// FrontConfig says how to start one. Either Dial or Listen is needed.
type FrontConfig struct {
	Dial   string // where the back-end listens
	Listen string // where the back-end dials

	MAC      byte // see the function
	Pairs    int
	Size     uint16                 // descriptors
	Without  virtio.Features        // of what the driver would like
	Protocol vhost.ProtocolFeatures // that may be agreed on; 0: all

	Page   uint64                                  // of all memory; 0: small pages
	Extent uint64                                  // of small pages; 0: the arena's choice
	Buffer uint32                                  // bytes; 0: room for a frame of 1514 and its header
	Count  int                                     // buffers that stay; 0: what receiving wants, and as many that need not
	Grow   func(*Front)                            // makes more of them, before anybody is told; nil: nobody
	Send   func(*Front, vnet.Buffers) vnet.Buffers // what sends takes its buffers from instead; nil: they are good
	Alloc  func(vnet.Allocator) vnet.Allocator     // the same for rings
}

// StartFront makes one and brings its device up. At the end of the test it gives
// everything back, and fails the test if anything is missing.
func StartFront(t testing.TB, c FrontConfig) *Front {
	t.Helper()
	f := &Front{t: t}
	t.Cleanup(f.Close)
	f.supply(c)
	f.connect(c)
	f.open(c)
	return f
}

// supply makes the memory.
func (f *Front) supply(c FrontConfig) {
	f.t.Helper()
	o := memfd.Options{Name: "peers-front", NoHuge: c.Page == 0, Extent: c.Extent, Linger: time.Millisecond}
	if c.Page != 0 {
		o.Pages = []uint64{c.Page}
	}
	var err error
	if f.Arena, err = memfd.New(o); err != nil {
		f.t.Fatal(err)
	}
	if f.Rings, err = f.Arena.Heap("rings", memfd.HeapOptions{Shared: true, Node: memfd.AnyNode}); err != nil {
		f.t.Fatal(err)
	}
	if f.Pool, err = f.Arena.Pool(f.t.Context(), "frames", c.pool()); err != nil {
		f.t.Fatal(err)
	}
	if c.Grow != nil {
		c.Grow(f)
	}
	for range c.Pairs {
		rx, tx := f.Pool.ResidentCache(), f.Pool.Cache()
		f.caches = append(f.caches, rx, tx)
		f.bufs = append(f.bufs, rx, tx)
		if c.Send != nil {
			f.bufs[len(f.bufs)-1] = c.Send(f, tx)
		}
	}
}

// pool gives a pool's options: as many buffers as receiving rings want are
// resident.
func (c FrontConfig) pool() memfd.PoolOptions {
	o := memfd.PoolOptions{Size: c.Buffer, Count: c.Count, Node: memfd.AnyNode, Cache: cacheSize}
	o.Resident = c.Pairs * (int(c.Size) + 2*cacheSize)
	if o.Size == 0 {
		o.Size = 2048
	}
	if o.Count == 0 {
		o.Count = 2 * o.Resident
	} else {
		o.Resident = o.Count
	}
	return o
}

// cacheSize is how many buffers a worker keeps to itself.
const cacheSize = 64

// connect reaches the back-end.
func (f *Front) connect(c FrontConfig) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	cfg := vhost.FrontendConfig{Device: virtio.Net, Memory: f.Arena, Protocol: c.Protocol, Backoff: 20 * time.Millisecond}
	var err error
	if c.Listen != "" {
		var l *net.UnixListener
		if l, err = vhost.Listen(c.Listen, vhost.ListenOptions{UID: -1, GID: -1}); err == nil {
			f.Link, err = vhost.Accept(ctx, l, cfg)
		}
	} else {
		f.Link, err = vhost.Dial(ctx, c.Dial, cfg)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// open brings the driver up.
func (f *Front) open(c FrontConfig) {
	f.t.Helper()
	rings := vnet.Allocator(f.Rings)
	if c.Alloc != nil {
		rings = c.Alloc(rings)
	}
	var err error
	f.Driver, err = vnet.Open(f.t.Context(), vnet.DriverConfig{
		Transport: f.Link, Rings: rings, Memory: f.Arena,
		Buffers:  func(ring int) vnet.Buffers { return f.bufs[ring] },
		Pairs:    c.Pairs,
		Size:     c.Size,
		Features: vnet.DefaultFeatures &^ c.Without,
		MAC:      [6]byte(MAC(c.MAC)),
		OnChange: f.changed,
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *Front) changed(c vnet.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes = append(f.changes, c)
}

// Changes counts what happened of a kind.
func (f *Front) Changes(kind vnet.ChangeKind) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.changes {
		if c.Kind == kind {
			n++
		}
	}
	return n
}

// Get lends buffers to send by pair i.
func (f *Front) Get(i int, dst []memtable.Buf) int { return f.bufs[2*i+1].Get(dst) }

// Put gives buffers back that were lent to send by pair i.
func (f *Front) Put(i int, src []memtable.Buf) { f.bufs[2*i+1].Put(src) }

// Check checks that features were agreed on (+name), or were not (-name).
func (f *Front) Check(signed ...string) {
	f.t.Helper()
	CheckFeatures(f.t, f.Features().Names(virtio.Net), signed...)
}

// Close takes everything down in order. Whatever is not given back is an error:
// a buffer, a ring, a page.
func (f *Front) Close() {
	f.t.Helper()
	f.close.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := f.down(ctx); err != nil {
			f.t.Error("taking the front-end down:", err)
		}
	})
}

func (f *Front) down(ctx context.Context) (err error) {
	if f.Driver != nil {
		err = errors.Join(err, f.Driver.Close(ctx))
	}
	if f.Link != nil {
		err = errors.Join(err, f.Link.Close())
	}
	for i, c := range f.caches {
		if r, ok := f.bufs[i].(interface{ Close() }); ok {
			r.Close() // the cache, or what stands before it
		}
		c.Close()
	}
	if f.Pool != nil {
		if s := f.Pool.Stats(); s.Lent != 0 || s.Free != s.Count || s.Refused != 0 {
			err = errors.Join(err, fmt.Errorf("of %d buffers %d are free, %d lent; %d were given back twice", s.Count, s.Free, s.Lent, s.Refused))
		}
		err = errors.Join(err, f.Pool.Close())
	}
	if f.Rings != nil {
		err = errors.Join(err, f.Rings.Close())
	}
	if f.Arena != nil {
		err = errors.Join(err, f.Arena.Close())
	}
	return err
}
