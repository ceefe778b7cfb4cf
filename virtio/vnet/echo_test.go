package vnet_test

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// echo is a network device that sends every frame back on the pair it came from.
type echo struct {
	spec   vhost.Spec
	opened chan *vhost.Session

	mu     sync.Mutex
	config [vnet.ConfigBytes]byte

	seen, sent, dropped atomic.Uint64
	spoil               atomic.Pointer[func(header []byte)] // changes what is written before frames

	taking sync.RWMutex
	deaf   bool // takes nothing; taking's
}

// netFeatures are what an echo offers of the device type's bits.
const netFeatures = vnet.FeatureCSUM | vnet.FeatureGuestCSUM | vnet.FeatureHostTSO4 | vnet.FeatureHostTSO6 | vnet.FeatureHostUSO |
	vnet.FeatureGuestTSO4 | vnet.FeatureGuestTSO6 | vnet.FeatureMrgRxbuf | vnet.FeatureMQ | vnet.FeatureMTU |
	vnet.FeatureMAC | vnet.FeatureStatus | vnet.FeatureSpeedDuplex

var echoMAC = [6]byte{2, 0, 0, 0, 0, 9}

func newEcho(pairs int) *echo {
	e := &echo{opened: make(chan *vhost.Session, 1000)}
	e.spec = vhost.Spec{
		ID: virtio.Net, Features: netFeatures, Queues: 2 * pairs, QueueMax: 1024,
		Shared: func(i int) bool { return i%2 == 0 },
	}
	copy(e.config[:], echoMAC[:])
	binary.LittleEndian.PutUint16(e.config[6:], vnet.StatusLinkUp)
	binary.LittleEndian.PutUint16(e.config[8:], uint16(pairs))
	binary.LittleEndian.PutUint16(e.config[10:], 9000)
	binary.LittleEndian.PutUint32(e.config[12:], 25000)
	e.config[16] = 1
	return e
}

func (e *echo) Spec() vhost.Spec { return e.spec }

func (e *echo) ReadConfig(p []byte, off int64) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return copy(p, e.config[min(int(off), len(e.config)):]), nil
}

func (e *echo) WriteConfig([]byte, int64) (int, error) { return 0, vhost.ErrNoConfig }

// edit changes the configuration space and tells the front-end.
func (e *echo) edit(t *testing.T, s *vhost.Session, change func(c []byte)) {
	t.Helper()
	e.mu.Lock()
	change(e.config[:])
	e.mu.Unlock()
	ok(t, s.NotifyConfig())
}

func (e *echo) Open(s *vhost.Session) (vhost.Handler, error) {
	h := &echoes{echo: e, s: s, work: make([]echoWork, e.spec.Queues)}
	for i := range h.work {
		h.work[i].frame = make([]byte, 1<<17)
	}
	e.opened <- s
	return h, nil
}

// echoes is one connection.
type echoes struct {
	*echo
	s    *vhost.Session
	work []echoWork // of each transmit ring
}

type echoWork struct {
	in, out virtio.Burst
	frame   []byte
}

func (h *echoes) Close() error { return nil }

// Serve takes from a transmit ring.
func (h *echoes) Serve(q *virtio.Queue) error {
	for h.burst(q) {
	}
	return nil
}

// beDeaf has the device take nothing from now on, or take again.
func (e *echo) beDeaf(deaf bool) {
	e.taking.Lock()
	defer e.taking.Unlock()
	e.deaf = deaf
}

// burst serves up to 32 frames.
func (h *echoes) burst(q *virtio.Queue) bool {
	h.taking.RLock()
	defer h.taking.RUnlock()
	w := &h.work[q.Index()]
	if h.deaf || q.Take(&w.in, virtio.Readable, 32) == 0 {
		return false
	}
	rx := h.s.Queue(q.Index() - 1)
	open := rx.Begin(q.Reader()) == virtio.Open
	for i := range w.in.N {
		h.seen.Add(1)
		if !open || !h.back(rx, w, w.gather(i)) {
			h.dropped.Add(1)
		}
	}
	if open {
		if rx.Publish() {
			rx.Call()
		}
		rx.End()
	}
	q.Put(&w.in)
	if q.Publish() {
		q.Call()
	}
	return true
}

// gather copies a frame with its header.
func (w *echoWork) gather(i int) []byte {
	n := 0
	for k := range int(w.in.Elem[i].Segs) {
		s := w.in.Seg(i, k)
		n += copy(w.frame[n:], s.VA.Bytes(uint64(s.Len)))
	}
	return w.frame[:n]
}

// back writes one frame into as many buffers as it takes.
func (h *echoes) back(rx *virtio.Queue, w *echoWork, frame []byte) bool {
	if len(frame) < vnet.Headroom {
		return false
	}
	f := h.s.Features()
	header, _ := vnet.Decode((*[10]byte)(frame)).Deliver(f, false)
	limit := 1
	if f.Has(vnet.FeatureMrgRxbuf) {
		limit = virtio.BurstMax
	}
	rx.Take(&w.out, virtio.Writable, limit)
	room, need := 0, 0
	for need < w.out.N && room < len(frame) {
		room += int(w.out.Elem[need].Total)
		need++
	}
	if room < len(frame) {
		rx.Untake(&w.out, 0)
		return false
	}
	rx.Untake(&w.out, need)
	header.NumBuffers = uint16(need)
	header.Encode((*[vnet.MaxHeader]byte)(frame))
	if spoil := h.spoil.Load(); spoil != nil {
		(*spoil)(frame[:vnet.Headroom])
	}
	for i := range w.out.N {
		e := &w.out.Elem[i]
		n := copy(e.VA.Bytes(uint64(e.Len)), frame)
		e.Wrote, frame = uint32(n), frame[n:]
	}
	rx.Put(&w.out)
	h.sent.Add(1)
	return true
}
