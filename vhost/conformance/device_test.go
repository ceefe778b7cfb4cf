package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// fill is what a device of these tests writes into every buffer it is given.
const fill = 0xaa

// device notes what it is told, reads what it is sent, and fills what it is
// given.
type device struct {
	spec  vhost.Spec
	serve func(*virtio.Queue) error // nil: work

	mu    sync.Mutex
	heard []string // what the handler's methods were called for
	read  [][]byte // the readable bytes of each chain, in order
}

// entropy is a device of two rings that is not enabled: paused.
func entropy() *device {
	return &device{spec: vhost.Spec{ID: virtio.Entropy, Queues: 2, QueueMax: 256}}
}

// netMTU is VIRTIO_NET_F_MTU (virtio 1.2, 5.1.3).
const netMTU virtio.Features = 1 << 3

// network is a network device of two pairs. Its receive rings are not shared:
// it fills all rings by itself.
func network() *device {
	return &device{spec: vhost.Spec{ID: virtio.Net, Queues: 4, QueueMax: 256, Features: netMTU}}
}

// Spec implements vhost.Device.
func (d *device) Spec() vhost.Spec { return d.spec }

// Open implements vhost.Device.
func (d *device) Open(*vhost.Session) (vhost.Handler, error) {
	if d.spec.ID == virtio.Net {
		return netHandler{handler{d}}, nil
	}
	return handler{d}, nil
}

// note remembers that something happened.
func (d *device) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heard = append(d.heard, fmt.Sprintf(format, args...))
}

// said gives what was noted since it was asked last.
func (d *device) said() (s []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, d.heard = d.heard, nil
	return s
}

// got gives what was read since it was asked last.
func (d *device) got() (p [][]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, d.read = d.read, nil
	return p
}

// work reads and fills every chain.
func (d *device) work(q *virtio.Queue) error {
	for c := range q.Chains() {
		d.mu.Lock()
		d.read = append(d.read, slices.Concat(c.Readable()...))
		d.mu.Unlock()
		n := 0
		for _, p := range c.Writable() {
			n += copy(p, bytes.Repeat([]byte{fill}, len(p)))
		}
		c.Done(n)
	}
	return nil
}

// handler is the device behind one connection.
type handler struct{ *device }

// Serve implements vhost.Handler.
func (h handler) Serve(q *virtio.Queue) error {
	if h.serve != nil {
		return h.serve(q)
	}
	return h.work(q)
}

// Close implements vhost.Handler.
func (h handler) Close() error { return nil }

// Negotiated implements vhost.Negotiator.
func (h handler) Negotiated(f virtio.Features) { h.note("features %#x", uint64(f)) }

// Reset implements vhost.Resetter.
func (h handler) Reset() { h.note("reset") }

// RingChanged implements vhost.RingWatcher.
func (h handler) RingChanged(i int, v *virtio.View) {
	switch {
	case v == nil:
		h.note("ring %d stopped", i)
	case v.Enabled:
		h.note("ring %d enabled", i)
	default:
		h.note("ring %d disabled", i)
	}
}

// netHandler is the network device behind one connection.
type netHandler struct{ handler }

// SetMTU implements vhost.NetHandler.
func (h netHandler) SetMTU(mtu uint16) error {
	if mtu > 9000 {
		return errors.New("no frame of that size passes")
	}
	h.note("mtu %d", mtu)
	return nil
}

// Announce implements vhost.NetHandler.
func (h netHandler) Announce(mac [6]byte) { h.note("announce %x", mac) }

// Drop implements vhost.Dropper: taken, not read, given back empty.
func (h netHandler) Drop(q *virtio.Queue) error {
	for c := range q.Chains() {
		h.note("ring %d dropped", q.Index())
		c.Done(0)
	}
	return nil
}

// configured is a device with a config space of 32 bytes, of which the first 16
// are read-only.
type configured struct {
	*device
	mu    sync.Mutex
	space [32]byte
}

func withConfig() *configured {
	return &configured{device: &device{spec: vhost.Spec{ID: virtio.Block, Queues: 2, QueueMax: 256}}}
}

// ReadConfig implements vhost.Configurer.
func (c *configured) ReadConfig(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off >= int64(len(c.space)) {
		return 0, io.EOF
	}
	return copy(p, c.space[off:]), nil
}

// WriteConfig implements vhost.Configurer.
func (c *configured) WriteConfig(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off < 16 || off > int64(len(c.space)) || len(p) > len(c.space)-int(off) {
		return 0, errors.New("that part of the config space is read-only")
	}
	return copy(c.space[off:], p), nil
}
