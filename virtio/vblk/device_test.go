package vblk_test

import (
	stdcontext "context"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// platter is what a disk in memory keeps over its connections, and how it is to
// behave.
type platter struct {
	features virtio.Features
	queues   int
	without  virtio.Features
	opened   chan *vhost.Session // each connection; its reader keeps up

	mu     sync.Mutex
	config vblk.Config
	data   []byte
	served []vblk.Type
	held   int // requests that this connection took and never answers

	// answer decides on a request that was done with this status: what the
	// device says. hold: it never says anything. nil: the truth.
	// heals: the next connection's does not ask.
	heals  bool
	answer func(h vblk.Header, s vblk.Status) (status vblk.Status, short int, hold bool)
	// quick has every request done without a look at it, and without allocating.
	quick bool
	// record has it keep a record of what is in flight.
	record bool
	// reversed has each burst completed from its end.
	reversed bool
}

const diskFeatures = vblk.FeatureSizeMax | vblk.FeatureSegMax | vblk.FeatureBlkSize | vblk.FeatureFlush |
	vblk.FeatureTopology | vblk.FeatureConfigWCE | vblk.FeatureMQ | vblk.FeatureDiscard | vblk.FeatureWriteZeroes

// newPlatter makes a disk of so many sectors.
func newPlatter(sectors uint64) *platter {
	return &platter{
		features: diskFeatures, queues: 4, opened: make(chan *vhost.Session, 256), data: make([]byte, sectors*vblk.SectorSize),
		config: vblk.Config{
			Capacity: sectors, SegMax: 16, BlockSize: 512, Writeback: true, Queues: 4,
			DiscardSectors: 64, DiscardSegs: 2, ZeroesSectors: 64, ZeroesSegs: 2, ZeroesUnmap: true,
		},
	}
}

func (p *platter) Spec() vhost.Spec {
	return vhost.Spec{ID: virtio.Block, Features: p.features, Queues: p.queues, Without: p.without, Inflight: p.record}
}

func (p *platter) Open(s *vhost.Session) (vhost.Handler, error) {
	p.edit(func() {
		if p.held = 0; p.heals {
			p.answer, p.served, p.heals = nil, nil, false
		}
	})
	p.opened <- s
	return &head{p: p}, nil
}

func (p *platter) ReadConfig(b []byte, off int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	space, _ := p.config.AppendBinary(nil)
	return copy(b, space[min(int(off), len(space)):]), nil
}

func (p *platter) WriteConfig(b []byte, off int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if off != 32 || len(b) != 1 {
		return 0, io.ErrShortWrite
	}
	p.config.Writeback = b[0] != 0
	return 1, nil
}

// types gives the requests that were served.
func (p *platter) types() []vblk.Type {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.served)
}

// edit changes how the device behaves, from the next request on.
func (p *platter) edit(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// head is the disk behind one connection.
type head struct {
	p      *platter
	bursts sync.Pool // scratch: a worker's in life, but rings may have the same one
}

func (h *head) Close() error { return nil }

func (h *head) Serve(q *virtio.Queue) error {
	b, _ := h.bursts.Get().(*virtio.Burst)
	if b == nil {
		b = new(virtio.Burst)
	}
	defer h.bursts.Put(b)
	for q.Take(b, virtio.Both, virtio.BurstMax) > 0 {
		if h.burst(b) {
			return nil // taken and never put: it does not answer any more
		}
		q.Put(b)
		if q.Publish() {
			q.Call()
		}
	}
	return nil
}

// burst serves what was taken; held says that it is not to be given back.
func (h *head) burst(b *virtio.Burst) (held bool) {
	p := h.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range b.N {
		if p.quick {
			done(b, i)
			continue
		}
		var in, out [][]byte
		for k := range int(b.Elem[i].Segs) {
			s := b.Seg(i, k)
			if k < b.Readable(i) {
				out = append(out, s.VA.Bytes(uint64(s.Len)))
			} else {
				in = append(in, s.VA.Bytes(uint64(s.Len)))
			}
		}
		header := vblk.DecodeHeader((*[vblk.HeaderLen]byte)(out[0]))
		last := in[len(in)-1]
		wrote, status := p.serve(header, slices.Concat(out[1:]...), in[:len(in)-1])
		short := 0
		if p.answer != nil {
			var hold bool
			if status, short, hold = p.answer(header, status); hold {
				p.held += b.N - i
				return true
			}
		}
		if status != noStatus {
			last[0] = byte(status)
		}
		b.Elem[i].Wrote = uint32(max(wrote+1-short, 0))
		p.served = append(p.served, header.Type)
	}
	if p.reversed {
		slices.Reverse(b.Elem[:b.N])
	}
	return false
}

// done says of element i that all is well.
func done(b *virtio.Burst, i int) {
	e := &b.Elem[i]
	for k := b.Readable(i); k < int(e.Segs); k++ {
		e.Wrote += b.Seg(i, k).Len
	}
	b.Seg(i, int(e.Segs)-1).VA.Bytes(1)[0] = byte(vblk.StatusOK)
}

// noStatus has the device leave the status byte as it was.
const noStatus vblk.Status = 77

// serve does one request.
func (p *platter) serve(h vblk.Header, out []byte, in [][]byte) (wrote int, s vblk.Status) {
	at := h.Sector * vblk.SectorSize
	switch h.Type {
	case vblk.TypeIn:
		for _, piece := range in {
			if at+uint64(len(piece)) > uint64(len(p.data)) {
				return 0, vblk.StatusIOErr
			}
			copy(piece, p.data[at:])
			at, wrote = at+uint64(len(piece)), wrote+len(piece)
		}
	case vblk.TypeOut:
		if at+uint64(len(out)) > uint64(len(p.data)) || len(out)%512 != 0 {
			return 0, vblk.StatusIOErr
		}
		copy(p.data[at:], out)
	case vblk.TypeFlush:
	case vblk.TypeGetID:
		return copy(in[0], "a disk of the test\x00\x00"), vblk.StatusOK
	case vblk.TypeDiscard, vblk.TypeWriteZeroes:
		return 0, p.ranges(h.Type, out)
	default:
		return 0, vblk.StatusUnsupp
	}
	return wrote, vblk.StatusOK
}

// ranges zeroes or, to be seen, fills with 0xdd what is discarded. It refuses
// what the configuration does not allow.
func (p *platter) ranges(t vblk.Type, out []byte) vblk.Status {
	if len(out) == 0 || len(out)%vblk.SegmentLen != 0 || len(out)/vblk.SegmentLen > int(p.config.DiscardSegs) {
		return vblk.StatusIOErr
	}
	for ; len(out) > 0; out = out[vblk.SegmentLen:] {
		s := vblk.DecodeSegment((*[vblk.SegmentLen]byte)(out))
		end := (s.Sector + uint64(s.Sectors)) * vblk.SectorSize
		if s.Sectors > p.config.DiscardSectors || end > uint64(len(p.data)) || t == vblk.TypeDiscard && s.Flags != 0 {
			return vblk.StatusUnsupp
		}
		fill := byte(0)
		if t == vblk.TypeDiscard {
			fill = 0xdd
		}
		for i := s.Sector * vblk.SectorSize; i < end; i++ {
			p.data[i] = fill
		}
	}
	return vblk.StatusOK
}

// listen serves p on a socket until the test ends.
func (p *platter) listen(tb testing.TB) (path string) {
	tb.Helper()
	path = tb.TempDir() + "/blk.sock"
	p.serveAt(tb, context(tb), path)
	return path
}

// serveAt serves p until ctx ends; then the channel is closed.
func (p *platter) serveAt(tb testing.TB, ctx stdcontext.Context, path string) <-chan struct{} {
	tb.Helper()
	l, err := vhost.Listen(path, vhost.ListenOptions{UID: -1, GID: -1})
	must(tb, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = (&vhost.Server{Device: p}).Serve(ctx, l)
	}()
	tb.Cleanup(func() { <-done })
	return done
}
