package virtio_test

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// The duel of a driver's queue: bytes are a schedule of what the driver is asked
// to do and of what its device writes; after each step both the queue and the
// ring are what the model says (driver_model_test.go).

// driverDuel is one schedule being played.
type driverDuel struct {
	b     *bus
	m     *ledger
	in    input
	pool  []memtable.Buf
	token uint64

	used    uint16 // the device's: used elements written
	fresh   bool   // the device was not kicked yet
	kicked  uint16 // available index of the last Kick
	hostile bool   // the device lies
	liar    bool   // it did
}

// The steps of a schedule; the last three are a hostile device's.
const (
	driverBurst = iota
	driverChain
	driverPublish
	driverKick
	driverReap
	driverArm
	driverDisarm
	driverReclaim
	driverConnect
	deviceUse
	deviceBatch
	deviceShow
	deviceEvent
	deviceElement
	deviceIndex
	devicePoke
	allSteps
	honestSteps = deviceElement
)

func newDriverDuel(b *bus, slots int, pool []memtable.Buf, hostile bool, in input) *driverDuel {
	d := &driverDuel{b: b, m: newLedger(b, slots), in: in, pool: pool, hostile: hostile}
	d.b.q.Reclaim()
	d.restart()
	return d
}

// restart is a device reset.
func (d *driverDuel) restart() {
	d.b.q.Reset()
	d.m.reset(uint16(d.b.o.Placement.Position))
	d.used, d.kicked, d.fresh, d.liar = d.m.reaped, d.m.availIdx, true, false
}

// play takes all steps, and then takes everything back.
func (d *driverDuel) play() error {
	kinds := byte(honestSteps)
	if d.hostile {
		kinds = allSteps
	}
	for n := 0; len(d.in) > 0; n++ {
		step := d.in.byte() % kinds
		err := d.step(step)
		if err == nil {
			err = d.laws()
		}
		if err != nil {
			return fmt.Errorf("step %d (%d): %w", n, step, err)
		}
	}
	return d.reclaim()
}

// laws hold after each step.
func (d *driverDuel) laws() error {
	lent := len(d.m.avail) + len(d.m.added)
	if d.b.q.Lent() != lent || d.b.q.Room() != len(d.m.free) {
		return fmt.Errorf("%d are lent and %d have room, want %d and %d", d.b.q.Lent(), d.b.q.Room(), lent, len(d.m.free))
	}
	return d.m.errorOf(d.b.q.Err())
}

func (d *driverDuel) step(step byte) error {
	switch step {
	case driverBurst:
		return d.burst(int(d.in.byte()%20), virtio.Dir(d.in.byte()%2+1))
	case driverChain:
		return d.chain(int(d.in.byte()%5), int(d.in.byte()%5))
	case driverPublish:
		return d.publish()
	case driverKick:
		return d.kick()
	case driverReap:
		return d.reap(int(d.in.byte() % 80))
	case driverArm, driverDisarm:
		return d.arm(step == driverArm)
	case driverReclaim: // seldom, or no ring is gone through twice
		if d.in.byte() < 8 {
			return d.reclaim()
		}
	case driverConnect: // another device, to which the ring goes on
		d.b.q.Connect(d.b.kick)
		d.fresh = true
	default:
		d.device(step)
	}
	return nil
}

// buf is a buffer with a token of its own.
func (d *driverDuel) buf() memtable.Buf {
	b := d.pool[d.token%uint64(len(d.pool))]
	d.token++
	b.Token = d.token
	b.Cap = 1 + uint32(d.in.byte())%b.Cap
	b.Len = b.Cap/2 + 1
	return b
}

func (d *driverDuel) burst(n int, dir virtio.Dir) error {
	bufs, want := make([]memtable.Buf, n), 0
	for i := range bufs {
		bufs[i] = d.buf()
		one, none := bufs[i:i+1], bufs[:0]
		if dir == virtio.Writable {
			one, none = none, one
		}
		if d.m.add(one, none, bufs[i]) {
			want++
		}
	}
	if got := d.b.q.AddBurst(bufs, dir); got != want {
		return fmt.Errorf("%d of %d buffers were added, want %d", got, n, want)
	}
	return nil
}

func (d *driverDuel) chain(out, in int) error {
	var bufs []memtable.Buf
	room := uint32(0)
	for i := range out + in {
		if bufs = append(bufs, d.buf()); i >= out {
			room += bufs[i].Cap
		}
	}
	d.token++
	ok := len(bufs) > 0 && len(bufs) <= int(d.m.ring.Size) &&
		d.m.add(bufs[:out], bufs[out:], memtable.Buf{Token: d.token, Cap: room})
	if err := d.b.q.Add(bufs[:out], bufs[out:], d.token); (err == nil) != ok {
		return fmt.Errorf("adding a chain of %d and %d: %v", out, in, err)
	}
	return nil
}

// publish holds what the ring has to the model, unless it was overwritten.
func (d *driverDuel) publish() error {
	at, fresh := d.m.availIdx, d.m.added
	d.m.publish()
	d.b.q.Publish()
	if d.liar || d.m.broken != nil {
		return nil
	}
	for i, c := range fresh {
		if err := d.m.inRing(at+uint16(i), c); err != nil {
			return err
		}
	}
	if idx := binary.LittleEndian.Uint16(d.m.ring.Avail[2:]); idx != d.m.availIdx {
		return fmt.Errorf("the available index is %d, want %d", idx, d.m.availIdx)
	}
	return nil
}

// kick wants one by the words of virtio 1.2, 2.7.10.
func (d *driverDuel) kick() error {
	want := d.fresh
	if d.m.features.Has(virtio.FeatureEventIdx) {
		event := binary.LittleEndian.Uint16(d.m.ring.Used[4+8*int(d.m.ring.Size):])
		for i := d.kicked; i != d.m.availIdx; i++ {
			want = want || i == event
		}
	} else {
		want = want || d.kicked != d.m.availIdx && binary.LittleEndian.Uint16(d.m.ring.Used)&1 == 0
	}
	rings := d.b.kick.Rings()
	got := d.b.q.Kick()
	if rang := d.b.kick.Rings() != rings; got != want || rang != want {
		return fmt.Errorf("Kick says %v and the bell rang %v, want %v", got, rang, want)
	}
	d.kicked, d.fresh = d.m.availIdx, false
	return nil
}

func (d *driverDuel) reap(k int) error {
	want := d.m.reap(k)
	got := make([]memtable.Buf, k)
	got = got[:d.b.q.Reap(got)]
	if !slices.Equal(got, want) {
		return fmt.Errorf("%+v came back, want %+v; the driver says %v, the model %v", got, want, d.b.q.Err(), d.m.broken)
	}
	return nil
}

// arm holds the answer, and what asks the device, to the model.
func (d *driverDuel) arm(on bool) error {
	if !on {
		d.b.q.Disarm()
	} else if work := d.b.q.Arm(); d.m.broken == nil {
		waiting := int(d.m.usedIdx() - d.m.reaped)
		if waiting > len(d.m.avail) {
			d.m.broken = virtio.ErrUsedIndex
		}
		if work != (waiting > 0) {
			return fmt.Errorf("Arm sees work %v, %d chains wait", work, waiting)
		}
	} else if !work {
		return fmt.Errorf("Arm would let the worker of a broken queue sleep")
	}
	if d.liar {
		return nil
	}
	if idx := binary.LittleEndian.Uint16(d.m.ring.Avail[2:]); idx != d.m.availIdx {
		return fmt.Errorf("the available index is %d, published are %d", idx, d.m.availIdx)
	}
	flags := binary.LittleEndian.Uint16(d.m.ring.Avail)
	event := binary.LittleEndian.Uint16(d.m.ring.Avail[4+2*int(d.m.ring.Size):])
	if d.m.features.Has(virtio.FeatureEventIdx) {
		if flags != 0 || on && event != d.m.reaped {
			return fmt.Errorf("avail.flags %d, used_event %d, %d were reaped", flags, event, d.m.reaped)
		}
	} else if (flags == 0) != on {
		return fmt.Errorf("avail.flags is %d, calls are wanted: %v", flags, on)
	}
	return nil
}

// reclaim takes everything back, exactly once, and begins anew.
func (d *driverDuel) reclaim() error {
	if got, want := d.b.q.Reclaim(), d.m.reclaim(); !slices.Equal(got, want) {
		return fmt.Errorf("%+v was reclaimed, want %+v", got, want)
	}
	if again := d.b.q.Reclaim(); len(again) > 0 {
		return fmt.Errorf("%+v was reclaimed twice", again)
	}
	d.restart()
	return nil
}
