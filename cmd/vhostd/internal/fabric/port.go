package fabric

import (
	"sync"
	"sync/atomic"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// offered is what a port offers beside the ring features.
const offered = vnet.FeatureCSUM | vnet.FeatureGuestCSUM |
	vnet.FeatureGuestTSO4 | vnet.FeatureGuestTSO6 | vnet.FeatureGuestECN | vnet.FeatureGuestUSO4 | vnet.FeatureGuestUSO6 |
	vnet.FeatureHostTSO4 | vnet.FeatureHostTSO6 | vnet.FeatureHostECN | vnet.FeatureHostUSO |
	vnet.FeatureMrgRxbuf | vnet.FeatureGuestAnnounce

// Port is a place to plug a front-end in. It is a [vhost.Device].
type Port struct {
	sw   *Switch
	slot int
	opts PortOptions
	conn atomic.Pointer[conn] // nil: nobody is plugged in

	drops  drops
	queues []queueCounters // by pair
}

// queueCounters count one pair. in is written by the queue's worker, out by who
// holds the receive queue's gate.
type queueCounters struct {
	inFrames, inBytes   atomic.Uint64
	_                   [48]byte
	outFrames, outBytes atomic.Uint64
	_                   [48]byte
}

func newPort(s *Switch, slot int, o PortOptions) *Port {
	return &Port{sw: s, slot: slot, opts: o, queues: make([]queueCounters, o.Pairs)}
}

// Name is the port's name.
func (p *Port) Name() string { return p.opts.Name }

// Spec is for the vhost server.
func (p *Port) Spec() vhost.Spec {
	f := offered | p.opts.Add
	if p.opts.Pairs > 1 {
		f |= vnet.FeatureMQ
	}
	if p.opts.MTU != 0 {
		f |= vnet.FeatureMTU
	}
	return vhost.Spec{
		ID: virtio.Net, Features: f &^ p.opts.Remove, Without: p.opts.Remove, Queues: 2 * p.opts.Pairs,
		Shared: func(queue int) bool { return queue%2 == 0 },
	}
}

// Open plugs a front-end in.
func (p *Port) Open(s *vhost.Session) (vhost.Handler, error) {
	c := &conn{port: p, session: s, workers: make([]*worker, p.opts.Pairs), rx: make([]receiver, p.opts.Pairs)}
	for i := range c.workers {
		c.workers[i] = newWorker(c, i)
		c.rx[i].Queue, c.rx[i].buffer = s.Queue(2*i), goodBuffer
	}
	c.live.Store(new([]*receiver))
	p.conn.Store(c)
	return c, nil
}

// Session is the front-end that is plugged in, or nil.
func (p *Port) Session() *vhost.Session {
	if c := p.conn.Load(); c != nil {
		return c.session
	}
	return nil
}

// conn is one front-end's stay at a port.
type conn struct {
	port    *Port
	session *vhost.Session
	workers []*worker                   // by pair
	rx      []receiver                  // by pair
	live    atomic.Pointer[[]*receiver] // those that run, in order

	mu     sync.Mutex
	herald *worker // for frames that we make
}

// receiver is a receive queue and what its fillers, one at a time, noticed.
type receiver struct {
	*virtio.Queue
	running bool        // started and enabled; with the conn's lock
	empty   atomic.Bool // waiting for buffers was in vain last time
	buffer  uint64      // size of the last buffer seen; with the gate
}

// Serve forwards what is in a transmit queue.
func (c *conn) Serve(q *virtio.Queue) error { return c.workers[q.Index()/2].forward(q) }

// Drop takes and drops what is in a transmit queue that is not enabled
// (vhost-user, Ring states).
func (c *conn) Drop(q *virtio.Queue) error { return c.workers[q.Index()/2].discard(q) }

// RingChanged keeps the list of receive queues that frames can go to.
func (c *conn) RingChanged(queue int, v *virtio.View) {
	if queue%2 != 0 || queue/2 >= len(c.workers) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rx[queue/2].running = v != nil && v.Enabled
	var live []*receiver
	for i := range c.rx {
		if c.rx[i].running {
			live = append(live, &c.rx[i])
		}
	}
	c.live.Store(&live)
}

// SetMTU accepts what the front-end found out from us or its own user.
func (c *conn) SetMTU(uint16) error { return nil }

// Close unplugs the front-end. One that was late to go must not take from the
// port what its successor brought.
func (c *conn) Close() error {
	if c.port.conn.CompareAndSwap(c, nil) {
		c.port.sw.fdb.forget(c.port.slot)
	}
	return nil
}

// receive chooses the receive queue for a pair of the sender: one flow stays in
// one queue, and so in order. A broken queue's flows go to a sibling.
func (c *conn) receive(pair int) *receiver {
	if c == nil {
		return nil
	}
	live := *c.live.Load()
	for i := range live {
		if r := live[(pair+i)%len(live)]; r.Err() == nil {
			return r
		}
	}
	return nil
}
