package virtio_test

import (
	"bytes"
	"fmt"

	"github.com/vhostd/vhostd/virtio"
)

// The device's steps in a world.

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
		if len(e.out)+e.room == 0 {
			w.bad++
		}
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
