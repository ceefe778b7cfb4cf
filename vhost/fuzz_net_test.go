package vhost

import (
	"errors"

	"github.com/vhostd/vhostd/virtio"
)

// fuzzNet moves what comes in on the odd rings to the even ones.
type fuzzNet struct {
	fuzzHandler
	bursts [4]virtio.Burst // one a ring: workers of two rings may be here at once
}

// netOnly is a fuzzDevice without a config space.
type netOnly struct{ d *fuzzDevice }

func (n netOnly) Spec() Spec                       { return n.d.Spec() }
func (n netOnly) Open(s *Session) (Handler, error) { return n.d.Open(s) }

func (h *fuzzNet) SetMTU(mtu uint16) error {
	if mtu > 9000 {
		return errors.New("no frame of that size passes")
	}
	return nil
}

func (h *fuzzNet) Announce([6]byte)           {}
func (h *fuzzNet) Negotiated(virtio.Features) {}
func (h *fuzzNet) Reset()                     {}

func (h *fuzzNet) Serve(q *virtio.Queue) error {
	h.d.may(q)
	tx := &h.bursts[q.Index()]
	for q.Take(tx, virtio.Readable, 4) > 0 {
		h.d.chainsTaken()
		if tx.N == 3 {
			q.Untake(tx, 2) // it is seen again
		}
		for i := range tx.N {
			if e := &tx.Elem[i]; e.Segs > 0 {
				h.forward(q, e.VA.Bytes(uint64(e.Len)))
			}
		}
		q.Put(tx)
		if q.Publish() {
			q.Call()
		}
	}
	return nil
}

// forward fills one chain of the ring that frames from q go to.
func (h *fuzzNet) forward(q *virtio.Queue, frame []byte) {
	to := h.d.current().Queue(q.Index() - 1)
	if to.Begin(q.Reader()) != virtio.Open {
		return
	}
	defer to.End()
	h.d.may(to)
	rx := &h.bursts[to.Index()]
	if !to.View().Enabled || to.Take(rx, virtio.Writable, 2) == 0 {
		if err := to.Err(); err != nil {
			h.d.current().Break(to.Index(), err)
		}
		return
	}
	h.d.chainsTaken()
	if frame[0]&7 == 7 {
		return // the end of the stay gives back what was taken
	}
	to.Untake(rx, 1)
	if e := &rx.Elem[0]; e.Segs > 0 {
		for k := range int(e.Segs) {
			s := rx.Seg(0, k)
			h.d.write(s.VA.Bytes(uint64(s.Len)))
		}
		e.Wrote = e.Total
		_ = copy(e.VA.Bytes(uint64(e.Len)), frame)
	}
	to.Put(rx)
	if to.Publish() {
		to.Call()
	}
}

// Drop gives everything back unseen.
func (h *fuzzNet) Drop(q *virtio.Queue) error {
	h.d.may(q)
	for tx := &h.bursts[q.Index()]; q.Take(tx, virtio.Readable, virtio.BurstMax) > 0; {
		h.d.chainsTaken()
		q.Put(tx)
		if q.Publish() {
			q.Call()
		}
	}
	return nil
}
