package virtio_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// TestAFullRoundOfIndicesIsAKick: when as many chains were published as there are
// indices, none looks new, and yet every event was passed.
func TestAFullRoundOfIndicesIsAKick(t *testing.T) {
	const burst = 64
	for _, extra := range []int{0, 1} {
		b := newBus(t, busOptions{size: burst, features: eventIdx, bytes: burst * 64})
		dev, bufs, back := b.device(), b.bufs(t, burst, 16, 0), make([]memtable.Buf, burst)
		pass := func(n int) {
			b.lend(t, bufs[:n], virtio.Writable)
			if dev.serve(n, virtio.Writable, 0) != n || b.q.Reap(back) != n {
				t.Fatal(b.q.Err())
			}
		}
		pass(1)
		b.q.Kick()
		// The event is behind: without a full round nobody wants a kick.
		binary.LittleEndian.PutUint16(b.ring().Used[4+8*burst:], 0x8000)
		if pass(1); b.q.Kick() {
			t.Fatal("a kick that nobody asked for")
		}
		for range 1 << 16 / burst {
			pass(burst)
		}
		if extra > 0 {
			pass(extra)
		}
		if !b.q.Kick() || b.q.Kick() {
			t.Errorf("%d chains later one kick is wanted", 1<<16+extra)
		}
	}
}

// TestANewDeviceIsKickedOnce, whatever the one before asked for; and a queue
// without a device keeps that for later.
func TestANewDeviceIsKickedOnce(t *testing.T) {
	for _, f := range []virtio.Features{0, eventIdx} {
		b := newBus(t, busOptions{size: 4, features: f, bytes: 4096})
		b.q.Connect(nil)
		b.lend(t, b.bufs(t, 1, 16, 0), virtio.Readable)
		b.ring().Used[0] = 1 // no kicks, please
		if b.q.Kick() {
			t.Error("a kick for nobody")
		}
		b.q.Connect(b.kick)
		if !b.q.Kick() || b.q.Kick() || b.kick.Rings() != 1 {
			t.Errorf("features %v: the bell rang %d times, want once", f.Names(virtio.Net), b.kick.Rings())
		}
	}
}

// TestARingBegunAnewIsAsIfNobodyHadUsedIt: nothing is asked for by either side,
// whatever the device before had written.
func TestARingBegunAnewIsAsIfNobodyHadUsedIt(t *testing.T) {
	for _, f := range []virtio.Features{0, eventIdx} {
		b := newBus(t, busOptions{size: 4, features: f, start: 5, bytes: 4096})
		for _, part := range [][]byte{b.ring().Avail, b.ring().Used} {
			for i := range part {
				part[i] = byte(5 * (1 - i%2)) // every field is 5
			}
		}
		b.q.Reset()
		dev := b.device()
		b.lend(t, b.bufs(t, 4, 16, 0), virtio.Writable)
		if dev.serve(4, virtio.Writable, 0); b.call.Rings() != 0 || len(b.reap(t, 8)) != 4 {
			t.Errorf("features %v: %d calls that nobody asked for", f.Names(virtio.Net), b.call.Rings())
		}
		b.q.Reclaim()
		b.q.Reset()
		used := b.ring().Used
		if used[2] = 0; slices.ContainsFunc(used, func(c byte) bool { return c != 0 }) { // but for idx
			t.Errorf("features %v: the used ring is %x", f.Names(virtio.Net), used)
		}
	}
}

// TestARingGoesOnWithTheNextDevice, which forgot what the one before had taken:
// it begins at the used index, in order nothing is lost and nothing comes twice.
func TestARingGoesOnWithTheNextDevice(t *testing.T) {
	for _, f := range []virtio.Features{0, inOrder | eventIdx} {
		b := newBus(t, busOptions{size: 16, features: f, start: 0xfffd, bytes: 4096})
		bufs := b.bufs(t, 12, 16, 0)
		b.lend(t, bufs[:8], virtio.Writable)
		first := b.device()
		first.serve(3, virtio.Writable, 0)
		first.reader.Enter()
		first.q.Begin(first.reader)
		first.q.Take(&first.b, virtio.Writable, 2) // and it dies

		b.lend(t, bufs[8:], virtio.Writable)
		if at, want := b.q.Where().Position, virtio.Position(0); at != want {
			t.Fatalf("the next device begins at %d, want %d", at, want)
		}
		second := b.device()
		b.q.Connect(b.kick)
		if second.serve(64, virtio.Writable, 0); !b.q.Kick() {
			t.Error("the next device was not kicked")
		}
		back := b.reap(t, 16)
		for i := range back {
			if back[i].Token != uint64(i) {
				t.Errorf("buffer %d came back at place %d", back[i].Token, i)
			}
		}
		if len(back) != 12 || b.q.Lent() != 0 {
			t.Errorf("%d buffers came back, %d are lent", len(back), b.q.Lent())
		}
	}
}

// TestWhereDoesNotBelieveAnIndexThatLies: the next device is not told it.
func TestWhereDoesNotBelieveAnIndexThatLies(t *testing.T) {
	b := newBus(t, busOptions{size: 4, bytes: 4096})
	b.lend(t, b.bufs(t, 2, 16, 0), virtio.Readable)
	liar := &paper{Ring: b.ring()}
	liar.shows(3)
	if at := b.q.Where().Position; at != 0 || !errors.Is(b.q.Err(), virtio.ErrUsedIndex) {
		t.Errorf("position %d, error %v", at, b.q.Err())
	}
}

// TestRingsThatCannotBeAreRefused, each with the reason.
func TestRingsThatCannotBeAreRefused(t *testing.T) {
	b := newBus(t, busOptions{size: 8, bytes: 4096})
	good := b.alloc(t, virtio.RingBytes(8), 64)
	short, askew := good, good
	short.Cap--
	askew.Addr += 16
	for name, try := range map[string]func() error{
		"too little memory": func() error { _, err := virtio.PlaceRing(short, 8); return err },
		"not aligned":       func() error { _, err := virtio.PlaceRing(askew, 8); return err },
		"six descriptors":   func() error { _, err := virtio.PlaceRing(good, 6); return err },
		"no descriptors":    func() error { _, err := virtio.PlaceRing(good, 0); return err },
		"a part is missing": func() error { o := b.o; o.Placement.Used = memtable.Buf{}; return made(o) },
		"avail at 2 modulo 4": func() error {
			o := b.o
			o.Placement.Avail = good
			o.Placement.Avail.VA = good.VA.Add(2)
			return made(o)
		},
		"a part is askew": func() error { o := b.o; o.Placement.Avail.Addr += 2; return made(o) },
		"tables are not aligned": func() error {
			o := b.o
			o.Features |= indirect
			o.Indirect = b.alloc(t, 8*16*2, 16)
			o.Indirect.Addr += 8
			return made(o)
		},
	} {
		if err := try(); !errors.Is(err, virtio.ErrRing) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, o := range map[string]virtio.DriverOptions{
		"packed": {Placement: b.o.Placement, Memory: b, Features: virtio.FeaturePacked}, "no memory": {Placement: b.o.Placement},
	} {
		if made(o) == nil {
			t.Errorf("%s: there is a queue", name)
		}
	}
}

func made(o virtio.DriverOptions) error {
	_, err := virtio.NewDriverQueue(o)
	return err
}

// nowhere is memory that was taken from under a queue.
type nowhere struct{ *memtable.Table[memtable.IOVA] }

func (n *nowhere) ByIOVA(*memtable.Reader) *memtable.Table[memtable.IOVA] { return n.Table }

// TestABufferWhoseMemoryIsGoneHasNoAddress: it is told by its token, and is not
// mistaken for something that can be used.
func TestABufferWhoseMemoryIsGoneHasNoAddress(t *testing.T) {
	b := newBus(t, busOptions{size: 8, bytes: 4096})
	gone := &nowhere{b.iova}
	b.o.Memory = gone
	q, err := virtio.NewDriverQueue(b.o)
	if err != nil {
		t.Fatal(err)
	}
	b.q = q
	bufs := b.bufs(t, 2, 16, 7)
	b.lend(t, bufs, virtio.Writable)
	b.device().serve(2, virtio.Writable, 0)
	if gone.Table, err = memtable.New[memtable.IOVA](nil, memtable.Options{}); err != nil {
		t.Fatal(err)
	}
	if n := q.Reap(make([]memtable.Buf, 2)); n != 0 || !errors.Is(q.Err(), virtio.ErrUnmapped) {
		t.Errorf("%d came back: %v", n, q.Err())
	}
	for i, v := range q.Reclaim() {
		if !v.VA.IsNil() || v.Addr != bufs[i].Addr || v.Token != bufs[i].Token {
			t.Errorf("%+v was reclaimed", v)
		}
	}
}
