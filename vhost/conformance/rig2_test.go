package conformance

import (
	"testing"
	"time"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// quiet is how long to listen for what must not come. It synchronises nothing:
// a test that is right passes however short it is.
const quiet = 20 * time.Millisecond

// still fails the test when something comes that must not.
func still[T any](t testing.TB, what string, c <-chan T) {
	t.Helper()
	select {
	case <-c:
		t.Fatalf("it must not happen: %s", what)
	case <-time.After(quiet):
	}
}

// state is the payload of most messages about a ring.
func state(i, num uint32) []byte { return payloadOf(vhost.VringState{Index: i, Num: num}) }

// file is the payload of the messages that bring a ring an eventfd.
func file(i int) []byte { return payloadOf(vhost.VringFD{Index: uint8(i)}) }

// lay is post without a kick.
func (r *ring) lay() (head uint16) {
	head = r.avail % ringSize
	clear(r.slot(head))
	r.layAt(r.gpa(dataAt+bufBytes*int(head)), bufBytes)
	return head
}

// layAt makes n bytes of guest memory available for the device to fill, and does
// not kick.
func (r *ring) layAt(gpa uint64, n uint32) (head uint16) {
	head = r.avail % ringSize
	r.desc(head, gpa, n, flagWrite, 0)
	r.offer(head)
	return head
}

// begin makes both indices of the ring n, as if it had run for a while. Only
// while it is stopped.
func (r *ring) begin(n uint16) {
	r.setAvail(n)
	r.setUsed(n)
}

// startAt is start with a base that is not what the driver has made available.
func (r *ring) startAt(base uint16) {
	r.f.t.Helper()
	r.configure()
	must(r.f.t, r.f.SetVringBase(r.index, virtio.Position(base)))
	must(r.f.t, r.f.SetVringKick(r.index, r.kick))
	must(r.f.t, r.f.SetVringEnable(r.index, true))
}

// setUsed writes used.idx, as a driver does that lays its ring anew.
func (r *ring) setUsed(idx uint16) { store32(r.bytes(usedAt), uint32(idx)<<16) }

// usedEvent asks for a call when used.idx passes v (virtio 1.2, 2.7.7).
func (r *ring) usedEvent(v uint16) { le.PutUint16(r.bytes(availAt)[4+2*ringSize:], v) }

// availEvent is where the device wants its next kick (virtio 1.2, 2.7.10).
func (r *ring) availEvent() uint16 { return le.Uint16(r.bytes(usedAt)[4+8*ringSize:]) }

// info is what the session tells of the ring.
func (r *ring) info(s *vhost.Session) vhost.RingInfo { return s.Info().Rings[r.index] }

// held makes the device stop at each chain that it took, until the test lets it
// go on: a value comes from took, and one is awaited from goOn.
func (d *device) held(t testing.TB) (took <-chan *virtio.Chain, goOn chan<- struct{}) {
	chains, on := make(chan *virtio.Chain), make(chan struct{})
	d.serve = func(q *virtio.Queue) error {
		for c := range q.Chains() {
			select {
			case chains <- c:
			case <-t.Context().Done():
				return nil
			}
			select {
			case <-on:
			case <-t.Context().Done():
				return nil
			}
			n := 0
			for _, p := range c.Writable() {
				for i := range p {
					p[i] = fill
				}
				n += len(p)
			}
			c.Done(n)
		}
		return nil
	}
	return chains, on
}

// channel is the front-end's end of the back-end's own channel.
type channel struct {
	*vhost.Conn
	t testing.TB
}

const configChange = vhost.Request(vhost.BackendConfigChange)

// channel gives the back-end a channel.
func (f *front) channel() *channel {
	f.t.Helper()
	c, err := f.SetBackendReqFD()
	must(f.t, err)
	f.t.Cleanup(func() { c.Close() })
	return &channel{vhost.NewConn(c, time.Minute), f.t}
}

// hear gives the next message, when one comes; closed: the channel ended.
func (c *channel) hear() <-chan message {
	heard := make(chan message, 1)
	go func() {
		defer close(heard)
		if r, flags, payload, _, err := c.Receive(); err == nil {
			heard <- message{request: r, flags: flags, payload: payload}
		}
	}()
	return heard
}
