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
	bad               uint64 // taken and bad
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

// take is the device taking up to k chains. One burst is out at a time.
func (w *world) take(k int, dir virtio.Dir) (bool, error) {
	if len(w.taken) > 0 {
		return false, nil
	}
	n := w.q.Take(w.burst, dir, k)
	if want := min(k, len(w.avail), virtio.BurstMax); n != want || w.burst.N != want {
		return true, fmt.Errorf("took %d (N %d) of %d chains, want %d", n, w.burst.N, len(w.avail), want)
	}
	w.taken, w.avail = append(w.taken, w.avail[:n]...), w.avail[n:]
	for i := range n {
		if err := w.compare(i); err != nil {
			return true, fmt.Errorf("chain %d of the burst, head %d: %w", i, w.taken[i].head, err)
		}
	}
	return n > 0, nil
}

// compare holds element i of the burst to what the driver made.
func (w *world) compare(i int) error {
	e, want := &w.burst.Elem[i], w.taken[i]
	if e.Head != want.head {
		return fmt.Errorf("head is %d", e.Head)
	}
	if len(want.out)+want.room == 0 {
		w.bad++
		if e.Segs != 0 {
			return fmt.Errorf("a chain without a byte has %d segments", e.Segs)
		}
		return nil
	}
	readable, writable := segs(w.burst, i)
	if got := bytes.Join(readable, nil); !bytes.Equal(got, want.out) {
		return fmt.Errorf("the device reads %d bytes, not the %d that were sent, or others; last bad: %q", len(got), len(want.out), w.q.Stats().LastBad)
	}
	if got := len(bytes.Join(writable, nil)); got != want.room || int(e.Total) != len(want.out)+want.room {
		return fmt.Errorf("%d bytes are writable, %d in all; want %d and %d", got, e.Total, want.room, len(want.out)+want.room)
	}
	return nil
}

// segs gives the memory of element i.
func segs(b *virtio.Burst, i int) (readable, writable [][]byte) {
	for k := range int(b.Elem[i].Segs) {
		s := b.Seg(i, k)
		if mem := s.VA.Bytes(uint64(s.Len)); k < b.Readable(i) {
			readable = append(readable, mem)
		} else {
			writable = append(writable, mem)
		}
	}
	return readable, writable
}

// untake gives the chains from i on back; it must not touch guest memory.
func (w *world) untake(i int) (bool, error) {
	if i >= len(w.taken) {
		return false, nil
	}
	before := w.rig.Memory.Snapshot()
	w.q.Untake(w.burst, i)
	back := w.taken[i:]
	w.taken, w.avail = w.taken[:i:i], append(append([]entry(nil), back...), w.avail...)
	return true, w.rig.Memory.Same(before)
}

// put is the device writing n bytes, or what there is room for, into each chain
// of the burst, and putting the burst.
func (w *world) put(n int) (bool, error) {
	if len(w.taken) == 0 {
		return false, nil
	}
	for i := range w.taken {
		e := &w.taken[i]
		_, writable := segs(w.burst, i)
		e.wrote = make([]byte, min(n, e.room))
		for k := range e.wrote {
			w.serial++
			e.wrote[k] = w.serial
		}
		rest := e.wrote
		for _, s := range writable {
			rest = rest[copy(s, rest):]
		}
		w.burst.Elem[i].Wrote = uint32(len(e.wrote))
		w.chains, w.bytes = w.chains+1, w.bytes+uint64(len(e.wrote))
	}
	w.hidden, w.taken = append(w.hidden, w.taken...), nil
	w.q.Put(w.burst)
	return true, nil
}

// show is the device publishing what was put. A call is made if it is wanted.
func (w *world) show() (bool, error) {
	old := w.usedIdx
	w.usedIdx += uint16(len(w.hidden))
	want := len(w.hidden) > 0 && w.rig.WantsCall(w.usedIdx, old)
	something := len(w.hidden) > 0
	w.shown, w.hidden = append(w.shown, w.hidden...), nil
	if call := w.q.Publish(); call != want {
		return true, fmt.Errorf("used index %d to %d: call wanted %v, Publish says %v", old, w.usedIdx, want, call)
	}
	return something, nil
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

// arm is the device asking for a kick.
func (w *world) arm() (bool, error) {
	w.armed, w.event = true, w.availIdx-uint16(len(w.avail))
	if work := w.q.Arm(); work != (len(w.avail) > 0) {
		return true, fmt.Errorf("Arm says work %v with %d chains available", work, len(w.avail))
	}
	return true, nil
}

// disarm is the device asking for none.
func (w *world) disarm() (bool, error) {
	w.armed = false
	w.q.Disarm()
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

// turn is the worker leaving the queue and coming back: what was taken and not
// put was never taken.
func (w *world) turn() (bool, error) {
	w.close()
	w.avail, w.taken = append(append([]entry(nil), w.taken...), w.avail...), nil
	w.burst.N = 0
	next := w.availIdx - uint16(len(w.avail))
	if err := equal("the position control sees", w.q.Position(), virtio.Position(next)); err != nil {
		return true, err
	}
	return true, w.enter()
}
