package virtio_test

import (
	"encoding/binary"
	"fmt"

	"github.com/vhostd/vhostd/virtio"
)

// The device's steps of a duel that write, and what they may write.

func (d *duel) untake(i int) error {
	ring := d.usedRing()
	d.q.Untake(d.burst, i)
	if i < len(d.heads) {
		d.next -= uint16(len(d.heads) - i)
		d.heads, d.pieces = d.heads[:i], d.pieces[:i]
	}
	if err := d.same(ring); err != nil {
		return err
	}
	return equal("chains kept", d.burst.N, len(d.heads))
}

// put writes up to n bytes into each chain, and one used element for each.
func (d *duel) put(n int) error {
	for i, list := range d.pieces {
		d.burst.Elem[i].Wrote = uint32(d.fill(list, n))
	}
	want := d.usedRing() // the chains may have named it: what was written there stays
	for i, head := range d.heads {
		slot := want[4+8*int((d.used+uint16(i))&(d.ref.ring.Size-1)):]
		binary.LittleEndian.PutUint32(slot, uint32(head))
		binary.LittleEndian.PutUint32(slot[4:], d.burst.Elem[i].Wrote)
	}
	d.used += uint16(len(d.heads))
	d.heads, d.pieces = nil, nil
	d.q.Put(d.burst)
	return d.same(want)
}

// fill writes up to n bytes into the writable pieces, as the driver's own so
// that what the queue writes can be told apart.
func (d *duel) fill(list []piece, n int) (wrote int) {
	for _, p := range list {
		if k := min(n-wrote, int(p.Len)); p.write && k > 0 {
			at, _, _ := d.memory.Table().Reverse(p.VA)
			fill := make([]byte, k)
			for i := range fill {
				fill[i] = byte(at) + byte(i)
			}
			d.memory.Write(at, fill)
			wrote += k
		}
	}
	return wrote
}

// word is flags and idx of the used ring.
func (d *duel) word(ring []byte, flags, idx uint16) []byte {
	binary.LittleEndian.PutUint16(ring, flags)
	binary.LittleEndian.PutUint16(ring[2:], idx)
	return ring
}

func (d *duel) eventIdx() bool { return d.ref.feat.Has(virtio.FeatureEventIdx) }

// show publishes; a call is wanted by what the driver has in its memory now.
func (d *duel) show() error {
	want, avail, size := d.usedRing(), d.ref.ring.Avail, int(d.ref.ring.Size)
	wanted := binary.LittleEndian.Uint16(avail)&1 == 0
	if d.eventIdx() {
		wanted = false
		for i := d.shown; i != d.used; i++ {
			wanted = wanted || i == binary.LittleEndian.Uint16(avail[4+2*size:])
		}
	}
	news := d.used != d.shown
	if d.shown = d.used; news {
		d.word(want, d.quiet, d.used)
	}
	if call := d.q.Publish(); call != (news && wanted) {
		return fmt.Errorf("call %v, wanted %v, with news %v", call, wanted, news)
	}
	return d.same(want)
}

// arm writes avail_event, or clears the flag.
func (d *duel) arm() error {
	want := d.usedRing()
	if d.eventIdx() {
		binary.LittleEndian.PutUint16(want[4+8*int(d.ref.ring.Size):], d.next)
	} else {
		want = d.flags(want, 0)
	}
	if work := d.q.Arm(); work != (d.ref.availIdx() != d.next) {
		return fmt.Errorf("Arm says work %v, the available index is %d, the device's %d", work, d.ref.availIdx(), d.next)
	}
	return d.same(want)
}

func (d *duel) disarm() error {
	want := d.usedRing()
	if !d.eventIdx() {
		want = d.flags(want, 1)
	}
	d.q.Disarm()
	return d.same(want)
}

// flags is the used ring after used.flags were set. They need no write where
// they are that already; the driver may have written them, and the index.
func (d *duel) flags(ring []byte, flags uint16) []byte {
	d.quiet = flags
	if binary.LittleEndian.Uint16(ring) == flags {
		return ring
	}
	return d.word(ring, flags, d.shown)
}

// turn leaves the queue and comes back, unless it is broken.
func (d *duel) turn() error {
	ring := d.usedRing()
	d.close()
	d.next -= uint16(len(d.heads))
	d.heads, d.pieces, d.burst.N = nil, nil, 0
	at := d.q.Position()
	d.rig.Reader.Enter()
	if got := d.q.Begin(d.rig.Reader); (got == virtio.Stopped) != d.broken {
		return fmt.Errorf("Begin says %d, the ring's error is %v", got, d.q.Err())
	}
	if err := d.same(ring); err != nil {
		return err
	}
	return equal("the position", at, virtio.Position(d.next))
}
