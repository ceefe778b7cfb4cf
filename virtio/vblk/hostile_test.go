package vblk_test

import (
	stdcontext "context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// Whatever the device says of a request is what its caller hears, and what is no
// status is an error.
func TestAStatusIsTheCallersError(t *testing.T) {
	for name, c := range map[string]struct {
		status vblk.Status
		short  int
		want   error
	}{
		"io error":         {vblk.StatusIOErr, 0, vblk.ErrIO},
		"unsupported":      {vblk.StatusUnsupp, 0, vblk.ErrUnsupported},
		"no status at all": {noStatus, 0, vblk.ErrStatus},
		"unknown status":   {200, 0, vblk.ErrStatus},
		"short read":       {vblk.StatusOK, 2, vblk.ErrShort},
		"nothing written":  {vblk.StatusOK, 1 << 20, vblk.ErrShort},
		"all but a status": {vblk.StatusOK, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlatter(64)
			p.answer = func(vblk.Header, vblk.Status) (vblk.Status, int, bool) { return c.status, c.short, false }
			r := open(t, p.listen(t), nil)
			_, err := r.ReadAt(make([]byte, 1024), 0)
			if !errors.Is(err, c.want) {
				t.Errorf("read: %v", err)
			}
			if e, ok := errors.AsType[*vblk.RequestError](err); c.want != nil && (!ok || e.Type != vblk.TypeIn || e.Bytes != 1024) {
				t.Errorf("the error does not say which request: %v", err)
			}
			if q := r.Stats().Queues[0]; q.Lent != 0 || q.Completed != q.Submitted {
				t.Errorf("%+v", q)
			}
		})
	}
}

// One bad part of a request that was split fails the whole, after all parts are
// back.
func TestOneBadPartFailsTheWhole(t *testing.T) {
	p := newPlatter(4096)
	p.config.SegMax, p.config.SizeMax = 1, 4096
	p.answer = func(h vblk.Header, s vblk.Status) (vblk.Status, int, bool) {
		if h.Sector == 24 {
			return vblk.StatusIOErr, 0, false
		}
		return s, 0, false
	}
	r := open(t, p.listen(t), nil)
	if err := r.ReadBufs(t.Context(), 0, []memtable.Buf{r.buf(t, 65536)}); !errors.Is(err, vblk.ErrIO) {
		t.Errorf("%v", err)
	}
	if q := r.Stats().Queues[0]; q.Lent != 0 || q.Failed != 1 {
		t.Errorf("%+v", q)
	}
}

// spy is a transport that remembers where rings are.
type spy struct {
	virtio.Transport
	rings map[int]virtio.Placement
}

func (s *spy) Connect(ctx stdcontext.Context, i int, p virtio.Placement) (virtio.Line, error) {
	s.rings[i] = p
	return s.Transport.Connect(ctx, i, p)
}

// A used ring that cannot be costs its queue, which is taken back: every request
// fails once, the other queue goes on, and the next device heals it.
func TestAQueueWhoseDeviceLiesIsTakenBack(t *testing.T) {
	for name, lie := range map[string]struct {
		id, n uint32
		want  error
	}{
		"id beyond the ring": {4096, 1, virtio.ErrUsedID},
		"id of nothing lent": {31, 1, virtio.ErrNotLent},
		"length":             {0, 1 << 20, virtio.ErrUsedLen},
	} {
		t.Run(name, func(t *testing.T) {
			p, seen := newPlatter(64), &spy{rings: map[int]virtio.Placement{}}
			p.answer = holdAll
			r := open(t, p.listen(t), func(o *vblk.Options) {
				direct(o)
				o.Features = ^virtio.FeatureInOrder
				seen.Transport, o.Transport = o.Transport, seen
			})
			q, b := r.Queue(0), r.buf(t, 512)
			one := vblk.Request{Type: vblk.TypeIn, Bufs: []memtable.Buf{b}}
			if n, err := q.Submit([]vblk.Request{one, one, one}); n != 3 || err != nil {
				t.Fatal(n, err)
			}
			p.awaitHeld(t, 3)
			used := seen.rings[1].Used.VA.Bytes(16)
			binary.LittleEndian.PutUint32(used[4:], lie.id)
			binary.LittleEndian.PutUint32(used[8:], lie.n)
			binary.LittleEndian.PutUint16(used[2:], 1)
			for _, d := range collect(t, q, 3) {
				if _, ok := errors.AsType[*vblk.QueueError](d.Err); !ok || !errors.Is(d.Err, lie.want) {
					t.Errorf("%+v", d)
				}
			}
			if _, err := q.Submit([]vblk.Request{one}); !errors.Is(err, lie.want) || !errors.Is(q.Wait(t.Context()), lie.want) {
				t.Errorf("a request on a dead queue: %v", err)
			}
			p.edit(func() { p.answer = nil })
			must(t, r.Flush(t.Context()))
			(<-p.opened).Fail(errKilled)
			eventually(t, "the queue to serve again", func() bool { n, _ := q.Submit([]vblk.Request{one}); return n == 1 })
			must(t, collect(t, q, 1)[0].Err)
		})
	}
}

// Configurations that would end in a request without a block are refused, and
// Open leaves nothing behind.
func TestOpenRefusesADiskThatCannotWork(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*platter)
		edit  func(*vblk.Options)
	}{
		"segments":    {spoil: func(p *platter) { p.config.SizeMax, p.config.SegMax = 1, 600 }},
		"block size":  {spoil: func(p *platter) { p.config.BlockSize = 1 }},
		"no queues":   {spoil: func(p *platter) { p.config.Queues = 0 }},
		"queues":      {edit: func(o *vblk.Options) { o.Queues = 5 }},
		"ring":        {edit: func(o *vblk.Options) { o.Size = 100 }},
		"legacy":      {spoil: func(p *platter) { p.without = virtio.FeatureVersion1 }},
		"few queues":  {spoil: func(p *platter) { p.config.Queues = 1 }, edit: func(o *vblk.Options) { o.Queues = 2 }},
		"bounce size": {edit: func(o *vblk.Options) { o.BounceSize = 100 }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlatter(64)
			if c.spoil != nil {
				c.spoil(p)
			}
			if _, err := tryOpen(t, p.listen(t), c.edit); err == nil {
				t.Error("it was opened")
			}
		})
	}
}
