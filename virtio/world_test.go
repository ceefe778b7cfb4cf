package virtio_test

import (
	"bytes"
	"fmt"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// The world of one queue, for the tests that take many steps: a driver, a
// device, and a model that knows where each chain must be. A step does one thing
// on one side and compares; it answers false where there was nothing to do. The
// laws (laws_test.go) hold between any two steps.

// entry is a chain as the model knows it.
type entry struct {
	head  uint16
	out   []byte // all the device can read
	room  int    // bytes it can write
	wrote []byte // what it wrote, from the start of its writable part
}

type world struct {
	rig   *virtiotest.Rig
	q     *virtio.Queue
	burst *virtio.Burst

	added, avail, taken, hidden, shown []entry // from not published to not reaped

	availIdx, usedIdx uint16 // as published
	armed             bool   // flags: kicks are wanted
	event             uint16 // EVENT_IDX: the index behind which a kick is wanted
	chains, bytes     uint64 // put
	bad               uint64 // put and bad
	serial            byte   // of what the device writes
}

// newWorld restarts rig and opens a stay at its queue.
func newWorld(rig *virtiotest.Rig, burst *virtio.Burst, start uint16, f virtio.Features) (*world, error) {
	rig.Restart(start, f)
	w := &world{rig: rig, q: rig.Queue, burst: burst, availIdx: start, usedIdx: start, armed: true}
	burst.N = 0
	return w, w.enter()
}

func (w *world) enter() error {
	w.rig.Reader.Enter()
	if a := w.q.Begin(w.rig.Reader); a != virtio.Open {
		return fmt.Errorf("Begin says %d: %w", a, w.q.Err())
	}
	return nil
}

func (w *world) close() {
	w.q.End()
	w.rig.Reader.Leave()
}

func (w *world) eventIdx() bool { return w.rig.Driver.Features.Has(virtio.FeatureEventIdx) }

// add is the driver making a chain that it does not publish yet.
func (w *world) add(r virtiotest.Request) (bool, error) {
	head, err := w.rig.Add(r)
	if err != nil {
		return false, nil // no room: nothing happened
	}
	e := entry{head: head, out: bytes.Join(r.Out, nil)}
	for _, n := range r.In {
		e.room += n
	}
	w.added = append(w.added, e)
	return true, nil
}

// publish is the driver making available what it added. The device asked for a
// kick, or it did not.
func (w *world) publish() (bool, error) {
	if len(w.added) == 0 {
		return false, nil
	}
	old := w.availIdx
	w.availIdx += uint16(len(w.added))
	want := w.armed
	if w.eventIdx() {
		want = false
		for i := old; i != w.availIdx; i++ { // the words of virtio 1.2, 2.7.10
			want = want || i == w.event
		}
	}
	w.avail, w.added = append(w.avail, w.added...), nil
	if kick := w.rig.Publish(); kick != want {
		return true, fmt.Errorf("available index %d to %d: kick wanted %v, but the ring says %v", old, w.availIdx, want, kick)
	}
	return true, nil
}

// reap is the driver taking one chain back: the oldest, with what was written.
func (w *world) reap() (bool, error) {
	u, ok, err := w.rig.Reap()
	if err != nil || ok != (len(w.shown) > 0) {
		return true, fmt.Errorf("%d chains wait to be reaped, one came: %v: %w", len(w.shown), ok, err)
	}
	if !ok {
		return false, nil
	}
	want := w.shown[0]
	w.shown = w.shown[1:]
	if u.Head != want.head || !bytes.Equal(u.Data(), want.wrote) {
		return true, fmt.Errorf("head %d came back with %x, want head %d with %x", u.Head, u.Data(), want.head, want.wrote)
	}
	return true, nil
}

// calls is the driver asking for calls, or for none.
func (w *world) calls(on bool) (bool, error) {
	if !on {
		w.rig.DisableCalls()
		return true, nil
	}
	if more := w.rig.EnableCalls(); more != (len(w.shown) > 0) {
		return true, fmt.Errorf("the driver sees work %v, %d chains were shown", more, len(w.shown))
	}
	return true, nil
}
