package vblk_test

import (
	stdcontext "context"
	"errors"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// balky is a transport of which an operation fails a few times, and whose events
// the test adds to.
type balky struct {
	virtio.Transport
	events chan virtio.TransportEvent

	mu    sync.Mutex
	fails map[string]int // how many times still
	ended error          // what Reset's context said
}

func (b *balky) do(op string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails[op] == 0 {
		return nil
	}
	b.fails[op]--
	return errKilled
}

func (b *balky) Accept(ctx stdcontext.Context, f virtio.Features) error {
	if err := b.do("accept"); err != nil {
		return err
	}
	return b.Transport.Accept(ctx, f)
}

func (b *balky) Connect(ctx stdcontext.Context, i int, p virtio.Placement) (virtio.Line, error) {
	if err := b.do("connect"); err != nil {
		return nil, err
	}
	return b.Transport.Connect(ctx, i, p)
}

func (b *balky) Start(ctx stdcontext.Context) error {
	if err := b.do("start"); err != nil {
		return err
	}
	return b.Transport.Start(ctx)
}

func (b *balky) Reset(ctx stdcontext.Context) error {
	b.ended = ctx.Err()
	if err := b.do("reset"); err != nil {
		return err
	}
	return b.Transport.Reset(ctx)
}

func (b *balky) Events() <-chan virtio.TransportEvent { return b.events }

// A device that does not come up after a reset is tried again, until it does:
// what was in flight is done then, and counts as sent once more.
func TestADeviceThatDoesNotComeUpIsTriedAgain(t *testing.T) {
	for _, op := range []string{"reset", "accept", "connect", "start"} {
		t.Run(op, func(t *testing.T) {
			p, b := newPlatter(64), &balky{events: make(chan virtio.TransportEvent), fails: map[string]int{}}
			p.answer = holdAll
			r := open(t, p.listen(t), func(o *vblk.Options) { b.Transport, o.Transport = o.Transport, b })
			result := make(chan error, 1)
			go func() { result <- r.Flush(t.Context()) }()
			p.awaitHeld(t, 1)
			p.edit(func() { p.answer = nil })
			b.mu.Lock()
			b.fails[op] = 2
			b.mu.Unlock()
			b.events <- virtio.TransportEvent{Kind: virtio.NeedsReset, Err: errKilled}
			must(t, <-result)
			if s := r.Stats(); s.Down != nil || s.Resets != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Open whose context ended resets the device all the same.
func TestOpenThatRunsOutOfTimeResetsTheDevice(t *testing.T) {
	p, b := newPlatter(64), &balky{fails: map[string]int{"start": 1}}
	open(t, p.listen(t), func(o *vblk.Options) {
		opts := *o
		b.Transport = o.Transport
		opts.Transport = b
		ctx, cancel := stdcontext.WithCancel(t.Context())
		opts.Heap = endingHeap{o.Heap, cancel}
		if _, err := vblk.Open(ctx, opts); err == nil {
			t.Fatal("opened")
		}
		if b.ended != nil {
			t.Errorf("the device was reset with a context that had ended: %v", b.ended)
		}
	})
}

// endingHeap ends a context when it is used.
type endingHeap struct {
	vblk.Heap
	end stdcontext.CancelFunc
}

func (h endingHeap) Alloc(ctx stdcontext.Context, n, align uint64) (memtable.Buf, error) {
	defer h.end()
	return h.Heap.Alloc(stdcontext.WithoutCancel(ctx), n, align)
}

// idle is a transport to a device that does nothing.
type idle struct {
	virtio.Transport
	events chan virtio.TransportEvent
}

func (*idle) Features() virtio.Features                                   { return needed }
func (*idle) Queues() int                                                 { return 1 }
func (*idle) QueueMax(int) uint16                                         { return 256 }
func (*idle) Accept(stdcontext.Context, virtio.Features) error            { return nil }
func (*idle) Start(stdcontext.Context) error                              { return nil }
func (*idle) Reset(stdcontext.Context) error                              { return nil }
func (*idle) Close() error                                                { return nil }
func (i *idle) Events() <-chan virtio.TransportEvent                      { return i.events }
func (*idle) Disconnect(stdcontext.Context, int) (virtio.Position, error) { return 0, nil }

const needed = virtio.FeatureVersion1 | vblk.FeatureFlush

func (*idle) ReadConfig(_ stdcontext.Context, _ int, p []byte) error {
	c := vblk.Config{Capacity: 64, SegMax: 4, BlockSize: 512, Queues: 1}
	b, err := c.AppendBinary(nil)
	copy(p, b)
	return err
}

func (*idle) Connect(stdcontext.Context, int, virtio.Placement) (virtio.Line, error) {
	return idleLine{}, nil
}

type idleLine struct{}

func (idleLine) Ring() {}

func (idleLine) Wait(ctx stdcontext.Context) error { <-ctx.Done(); return stdcontext.Cause(ctx) }

// cuttable is a heap in one file, and memory that can be cut off.
type cuttable struct {
	fd   int
	at   uint64
	all  memtable.Buf
	lent int
}

const cuttableBytes = 1 << 20

func (c *cuttable) cut(t *testing.T, n int64) { must(t, unix.Ftruncate(c.fd, n)) }

func (c *cuttable) ByIOVA(*memtable.Reader) *memtable.Table[memtable.IOVA] { return nil }

func (c *cuttable) Alloc(_ stdcontext.Context, n, _ uint64) (memtable.Buf, error) {
	b := memtable.Buf{VA: c.all.VA.Add(c.at), Addr: c.all.Addr + memtable.IOVA(c.at), Cap: uint32(n)}
	if c.at += (n + 4095) &^ 4095; c.at > cuttableBytes {
		return b, errors.New("the file is too short")
	}
	c.lent++
	return b, nil
}

func (c *cuttable) Free(memtable.Buf) error { c.lent--; return nil }

// The memory of rings vanishes: that is no crash, every request ends, and all
// memory is back in the end, whatever happens next.
func TestRingsThatVanishAreNoCrash(t *testing.T) {
	for name, events := range map[string][]virtio.TransportEvent{
		"close":       nil,
		"lost":        {{Kind: virtio.Lost}},
		"back":        {{Kind: virtio.Lost}, {Kind: virtio.Back}},
		"as it was":   {{Kind: virtio.Lost}, {Kind: virtio.Back, Resumes: true}},
		"broken":      {{Kind: virtio.QueueBroken, Err: errKilled}},
		"needs reset": {{Kind: virtio.NeedsReset, Err: errKilled}},
	} {
		t.Run(name, func(t *testing.T) {
			fd, err := unix.MemfdCreate("rings", unix.MFD_CLOEXEC)
			must(t, err)
			defer unix.Close(fd)
			c := &cuttable{fd: fd}
			c.cut(t, cuttableBytes)
			m, err := memtable.MapFile(fd, 0, cuttableBytes, memtable.MapOptions{})
			must(t, err)
			defer m.Close()
			c.all = memtable.Buf{VA: m.VA(), Addr: 0x7000_0000}
			tr := &idle{events: make(chan virtio.TransportEvent)}
			d, err := vblk.Open(t.Context(), vblk.Options{Transport: tr, Heap: c, Memory: c, Size: 32, Direct: 1})
			must(t, err)
			q := d.Queue(0)
			if n, err := q.Submit([]vblk.Request{{Type: vblk.TypeFlush}, {Type: vblk.TypeFlush}}); n != 2 {
				t.Fatal(n, err)
			}
			c.cut(t, 0)
			for _, e := range events {
				tr.events <- e
			}
			if n, err := q.Submit([]vblk.Request{{Type: vblk.TypeFlush}}); n != 0 || name == "close" && !errors.As(err, new(*memtable.FaultError)) {
				t.Errorf("%d requests, %v, in a ring that is not there", n, err)
			}
			must(t, d.Close())
			ended, done := 0, make([]vblk.Done, 8)
			for n := q.Complete(done); n > 0; n = q.Complete(done) {
				ended += n
			}
			if ended != 2 || c.lent != 0 {
				t.Errorf("%d requests ended, %d pieces of memory were kept", ended, c.lent)
			}
		})
	}
}
