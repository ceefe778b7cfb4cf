package virtio_test

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// duel is a queue against a driver without manners. The driver writes what it
// likes; the device is held to the reference: it takes what the ring says, and
// writes nothing but used elements, the used index and flags, avail_event.
type duel struct {
	rig    *virtiotest.Rig
	memory *virtiotest.Memory
	q      *virtio.Queue
	ref    reference
	burst  *virtio.Burst
	in     input

	added uint16 // the driver's available index
	next  uint16 // the device's
	used  uint16 // elements put
	shown uint16 // used.idx
	quiet uint16 // used.flags

	heads  []uint16  // of the burst
	pieces [][]piece // of the burst; nil: a bad chain
	broken bool
}

func newDuel(rigs [8]*virtiotest.Rig, m *virtiotest.Memory, b *virtio.Burst, in input) *duel {
	kind := in.byte()
	rig := rigs[kind&7]
	feat := virtio.FeatureVersion1
	if kind&8 != 0 {
		feat |= virtio.FeatureIndirect
	}
	if kind&16 != 0 {
		feat |= virtio.FeatureEventIdx
	}
	d := &duel{rig: rig, memory: m, burst: b, in: in}
	m.Clear()
	d.ref = reference{ring: rig.View.Ring, mem: m.Table(), feat: feat, dir: virtio.Dir(kind>>5)%3 + 1}
	d.reset(feat)
	return d
}

// reset is a device reset: a new queue on a fresh ring.
func (d *duel) reset(feat virtio.Features) {
	const start = 0xfffd
	d.rig.Restart(start, feat)
	d.added, d.next, d.used, d.shown, d.quiet = start, start, start, start, 0
	d.q, d.broken, d.heads, d.pieces, d.burst.N = d.rig.Queue, false, nil, nil, 0
	d.rig.Reader.Enter()
	d.q.Begin(d.rig.Reader)
}

func (d *duel) close() {
	d.q.End()
	d.rig.Reader.Leave()
}

// play takes all steps; after each the memory is what the driver made it.
func (d *duel) play() error {
	for n := 0; len(d.in) > 0; n++ {
		step := d.in.byte() % steps
		if err := d.step(step); err != nil {
			return fmt.Errorf("step %d (%d): %w", n, step, err)
		}
		if err := d.memory.Verify(); err != nil {
			return fmt.Errorf("step %d (%d): %w", n, step, err)
		}
	}
	return nil
}

func (d *duel) step(step byte) error {
	if step <= stepEvents {
		d.drive(step)
		return nil
	}
	if d.broken && step != stepReset && step != stepTurn {
		return nil // nobody is at the queue
	}
	switch step {
	case stepTake:
		return d.take(int(d.in.byte() % 16))
	case stepUntake:
		return d.untake(int(d.in.byte() % 16))
	case stepPut:
		return d.put(int(d.in.byte()) * 5)
	case stepShow:
		return d.show()
	case stepArm:
		return d.arm()
	case stepDisarm:
		return d.disarm()
	case stepTurn:
		return d.turn()
	}
	d.close()
	d.reset(d.ref.feat)
	return nil
}

// drive is what the driver does.
func (d *duel) drive(step byte) {
	raw := d.rig.Raw()
	switch size := uint16(d.rig.View.Ring.Size); step {
	case stepDesc:
		i := uint16(d.in.byte()) % size
		raw.Desc(i, d.in.desc())
	case stepTable: // a descriptor anywhere
		at := d.in.addr()
		e := d.in.desc()
		if d.here(at, 16) {
			raw.DescAt(at, e)
		}
	case stepOffer:
		head := uint16(d.in.byte())
		if head >= 0xf0 {
			head |= 0xff00
		}
		raw.Head(d.added, head)
		d.added++
	case stepPublish:
		raw.Index(d.added)
	case stepIndex:
		d.added += uint16(d.in.byte()) * 257
		raw.Index(d.added)
	case stepPoke: // a byte anywhere, the rings among it
		at := memtable.GPA(d.in.byte())<<4 + memtable.GPA(d.in.byte()&15)
		d.memory.Write(at, []byte{d.in.byte()})
	case stepEvents:
		if d.in.byte()&1 != 0 {
			d.rig.SetUsedEvent(d.shown + uint16(d.in.byte()) - 128)
		} else {
			raw.Flags(uint16(d.in.byte()))
		}
	}
}

// here says whether n bytes at a are guest memory.
func (d *duel) here(a memtable.GPA, n uint64) bool {
	_, err := d.memory.Table().Append(nil, a, n)
	return err == nil
}

// usedRing copies the used ring, to compare.
func (d *duel) usedRing() []byte { return bytes.Clone(d.rig.View.Ring.Used) }

// same says whether the used ring is want.
func (d *duel) same(want []byte) error {
	if got := d.rig.View.Ring.Used; !bytes.Equal(got, want) {
		return fmt.Errorf("the used ring is %x, want %x", got, want)
	}
	return nil
}

// take compares a burst with the reference.
func (d *duel) take(k int) error {
	if len(d.heads) > 0 {
		return nil // one burst at a time
	}
	ring, idx, size := d.usedRing(), d.ref.availIdx(), d.ref.ring.Size
	n := d.q.Take(d.burst, d.ref.dir, k)
	if err := d.same(ring); err != nil {
		return err
	}
	if ahead := idx - d.next; ahead > size {
		return d.breaks(n, virtio.ErrIndex)
	} else {
		k = min(k, int(ahead))
	}
	for i := range k {
		head := d.ref.head(d.next + uint16(i))
		if head >= size && i == 0 {
			return d.breaks(n, virtio.ErrHead)
		}
		if head >= size {
			k = i
			break
		}
		if err := d.compare(i, head); err != nil {
			return fmt.Errorf("chain %d of the burst, head %d: %w", i, head, err)
		}
	}
	d.next += uint16(k)
	return equal("chains taken", n, k)
}

// breaks expects a broken ring.
func (d *duel) breaks(n int, why error) error {
	d.broken = true
	if n != 0 || !errors.Is(d.q.Err(), why) {
		return fmt.Errorf("took %d chains, the ring's error is %v, want %v", n, d.q.Err(), why)
	}
	return nil
}

// compare holds element i to what the reference reads under head.
func (d *duel) compare(i int, head uint16) error {
	e := &d.burst.Elem[i]
	want, v := d.ref.chain(head)
	if v == unsure && e.Segs == 0 {
		want = nil
	}
	d.heads, d.pieces = append(d.heads, head), append(d.pieces, want)
	if e.Head != head || int(e.Segs) != len(want) || e.Wrote != 0 {
		return fmt.Errorf("head %d, %d segments, %d written; the reference has %d segments", e.Head, e.Segs, e.Wrote, len(want))
	}
	total := 0
	for k, p := range want {
		total += int(p.Len)
		if s := d.burst.Seg(i, k); s != p.Seg || (k >= d.burst.Readable(i)) != p.write {
			return fmt.Errorf("segment %d is %+v (writable %v), want %+v", k, s, k >= d.burst.Readable(i), p)
		}
	}
	return equal("bytes in all", int(e.Total), total)
}
