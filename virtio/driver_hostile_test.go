package virtio_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// paper is a device that writes the used ring as it likes.
type paper struct {
	virtio.Ring
	idx uint16 // elements written
}

// uses writes the next used element and shows it.
func (p *paper) uses(id, n uint32) {
	e := p.Used[4+8*int(p.idx&(p.Size-1)):]
	binary.LittleEndian.PutUint32(e, id)
	binary.LittleEndian.PutUint32(e[4:], n)
	p.shows(p.idx + 1)
}

func (p *paper) shows(idx uint16) {
	p.idx = idx
	binary.LittleEndian.PutUint16(p.Used[2:], idx)
}

// What every liar is lent, by head.
const (
	sinkHead    = 0 // a buffer of 64 bytes to write
	sourceHead  = 1 // one to read
	chainHead   = 2 // three buffers, two of 16 bytes to write
	innerHead   = 3 // belongs to the chain
	hiddenHead  = 5 // added and not published
	freeHead    = 6 // nothing
	liarsSize   = 8 // descriptors
	liarsStart  = 0xfffe
	liarsWrites = 10 // bytes, while it is honest
)

// lies are what a device may write after it used the first buffer honestly.
var lies = []struct {
	name  string
	feat  virtio.Features
	tell  func(p *paper)
	want  error
	field string
}{
	{"used index runs ahead of what is available", 0, func(p *paper) { p.uses(sourceHead, 0); p.shows(p.idx + 2) }, virtio.ErrUsedIndex, "idx"},
	{"used index runs backwards", 0, func(p *paper) { p.shows(liarsStart - 1) }, virtio.ErrUsedIndex, "idx"},
	{"used index jumps by half of all indices", 0, func(p *paper) { p.shows(p.idx + 0x8000) }, virtio.ErrUsedIndex, "idx"},
	{"id is the size of the ring", 0, func(p *paper) { p.uses(liarsSize, 0) }, virtio.ErrUsedID, "id"},
	{"id is right in its low 16 bits", 0, func(p *paper) { p.uses(1<<16|sourceHead, 0) }, virtio.ErrUsedID, "id"},
	{"id is 2^32-1", 0, func(p *paper) { p.uses(0xffffffff, 0) }, virtio.ErrUsedID, "id"},
	{"id of a descriptor that is free", 0, func(p *paper) { p.uses(freeHead, 0) }, virtio.ErrNotLent, "id"},
	{"id of a chain that was not published", 0, func(p *paper) { p.uses(hiddenHead, 0) }, virtio.ErrNotLent, "id"},
	{"id twice", 0, func(p *paper) { p.uses(sinkHead, liarsWrites) }, virtio.ErrNotLent, "id"},
	{"id from the middle of a chain", 0, func(p *paper) { p.uses(innerHead, 0) }, virtio.ErrNotHead, "id"},
	{"length beyond the chain's writable buffers", 0, func(p *paper) { p.uses(chainHead, 33) }, virtio.ErrUsedLen, "len"},
	{"length in a buffer that is only read", 0, func(p *paper) { p.uses(sourceHead, 1) }, virtio.ErrUsedLen, "len"},
	{"length of 2^32-1", 0, func(p *paper) { p.uses(chainHead, 0xffffffff) }, virtio.ErrUsedLen, "len"},
	{"in order: the one before the last first", inOrder, func(p *paper) { p.uses(chainHead, 0) }, virtio.ErrOrder, "id"},
	{"in order: a batch that was used before", inOrder, func(p *paper) { p.uses(sinkHead, 0) }, virtio.ErrNotLent, "id"},
	{"in order: a batch ends in the middle of a chain", inOrder, func(p *paper) { p.uses(innerHead, 0); p.shows(p.idx + 1) }, virtio.ErrNotHead, "id"},
	{"in order: a batch ends behind what is published", inOrder, func(p *paper) { p.uses(hiddenHead, 0) }, virtio.ErrNotLent, "id"},
	{"in order: the last of a batch is too long", inOrder, func(p *paper) { p.uses(chainHead, 33); p.shows(p.idx + 1) }, virtio.ErrUsedLen, "len"},
	{"in order: id beyond the table", inOrder, func(p *paper) { p.uses(liarsSize, 0) }, virtio.ErrUsedID, "id"},
}

// TestADeviceThatLies breaks its queue, whatever field it lies in: what it told
// before is believed, nothing after, each buffer is got back exactly once, and
// the ring can be begun anew.
func TestADeviceThatLies(t *testing.T) {
	for _, lie := range lies {
		t.Run(lie.name, func(t *testing.T) {
			b := newBus(t, busOptions{size: liarsSize, start: liarsStart, features: lie.feat, bytes: 4096})
			bufs := b.bufs(t, 3, 64, 1)
			parts := b.bufs(t, 3, 16, 90)
			b.lend(t, bufs[:1], virtio.Writable)
			b.lend(t, bufs[1:2], virtio.Readable)
			if err := b.q.Add(parts[:1], parts[1:], 50); err != nil {
				t.Fatal(err)
			}
			b.q.Publish()
			b.q.AddBurst(bufs[2:], virtio.Writable)

			liar := &paper{Ring: b.ring(), idx: liarsStart}
			liar.uses(sinkHead, liarsWrites)
			if back := b.reap(t, 8); len(back) != 1 || back[0].Token != 1 || back[0].Len != liarsWrites {
				t.Fatalf("%+v came back from an honest device", back)
			}
			lie.tell(liar)
			b.isBroken(t, lie.want, lie.field)

			want := []memtable.Buf{bufs[1], {Token: 50, Cap: 32}, bufs[2]}
			want[0].Len, want[2].Len = 0, 0
			if back := b.q.Reclaim(); !slices.Equal(back, want) {
				t.Errorf("%+v was reclaimed, want %+v", back, want)
			}
			if b.q.Reset(); b.q.Lent() != 0 || b.q.Room() != liarsSize || b.q.Err() != nil {
				t.Errorf("after Reset %d are lent, %d have room: %v", b.q.Lent(), b.q.Room(), b.q.Err())
			}
			if !b.turn(b.device(), bufs, make([]memtable.Buf, 3), virtio.Readable) {
				t.Error("the ring does not go on")
			}
		})
	}
}

// isBroken wants the queue to say so and to do nothing any more.
func (b *bus) isBroken(t *testing.T, want error, field string) {
	t.Helper()
	back := make([]memtable.Buf, 8)
	if n := b.q.Reap(back); n != 0 {
		t.Errorf("%+v was believed", back[:n])
	}
	err, ok := errors.AsType[*virtio.UsedError](b.q.Err())
	if !ok || !errors.Is(err, want) || err.Field != field || !strings.Contains(err.Error(), "reset the device") {
		t.Errorf("Err is %v, want %v about %q", b.q.Err(), want, field)
	}
	idx := binary.LittleEndian.Uint16(b.ring().Avail[2:])
	b.q.Publish()
	if added := b.q.AddBurst(back[:1], virtio.Readable); added != 0 || b.q.Add(back[:1], nil, 0) == nil {
		t.Error("something was added")
	}
	if now := binary.LittleEndian.Uint16(b.ring().Avail[2:]); now != idx {
		t.Error("something was published")
	}
	if b.q.Reap(back) != 0 || !b.q.Arm() {
		t.Error("a worker would not look at it again")
	}
}

// TestWhatADeviceOverwritesIsNotReadBack: descriptors, links, heads, tables and
// flags, which are the driver's to write.
func TestWhatADeviceOverwritesIsNotReadBack(t *testing.T) {
	for _, f := range []virtio.Features{0, indirect, inOrder} {
		b := newBus(t, busOptions{size: 8, features: f, slots: 4, bytes: 4096})
		bufs := b.bufs(t, 4, 32, 1)
		b.lend(t, bufs[:1], virtio.Writable)
		if err := b.q.Add(bufs[1:2], bufs[2:], 9); err != nil {
			t.Fatal(err)
		}
		b.q.Publish()
		p := &paper{Ring: b.ring()}
		for _, mine := range [][]byte{p.Desc, p.Avail, b.o.Indirect.VA.Bytes(uint64(b.o.Indirect.Cap))} {
			for i := range mine {
				mine[i] = 0xa5
			}
		}
		p.uses(0, 32)
		p.uses(1, 64)
		want := []memtable.Buf{bufs[0], {Token: 9, Len: 64, Cap: 64}}
		if back := b.reap(t, 8); !slices.Equal(back, want) || b.q.Room() != 8 {
			t.Errorf("features %v: %+v came back, want %+v; %d have room", f.Names(virtio.Net), back, want, b.q.Room())
		}
		b.q.AddBurst(bufs[:1], virtio.Writable)
		if b.q.Publish(); binary.LittleEndian.Uint32(p.Avail) != 3<<16|1 {
			t.Errorf("flags and idx are %#x, want index 3 and no calls", p.Avail[:4])
		}
	}
}

// TestADeviceThatWritesAllTheTime cannot make the driver believe nonsense or
// lose a buffer: what is judged is a copy. The memory is a file, where the race
// detector does not look.
func TestADeviceThatWritesAllTheTime(t *testing.T) {
	rounds := 3000
	if testing.Short() || raceEnabled {
		rounds = 300
	}
	b := newBus(t, busOptions{size: 16, bytes: 8192, file: true})
	bufs, back := b.bufs(t, 12, 64, 0), make([]memtable.Buf, 16)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for dice := rand.New(rand.NewPCG(3, 4)); ; {
			select {
			case <-stop:
				return
			default:
				almostTrue(b.ring().Used, dice)
			}
		}
	}()
	believed := 0
	for range rounds {
		held := make(map[uint64]bool)
		take := func(back []memtable.Buf) {
			for _, v := range back {
				if i := v.Token; !held[i] || v.VA != bufs[i].VA || v.Len > v.Cap || v.Cap != bufs[i].Cap {
					t.Fatalf("%+v came back, lent are %v", v, held)
				}
				delete(held, v.Token)
			}
		}
		for i := range b.q.AddBurst(bufs, virtio.Writable) {
			held[uint64(i)] = true
		}
		b.q.Publish()
		for range 3 {
			runtime.Gosched() // there may be one processor
			n := b.q.Reap(back)
			take(back[:n])
			believed += n
		}
		take(b.q.Reclaim())
		if len(held) > 0 {
			t.Fatalf("tokens %v were lost", held)
		}
		b.q.Reset()
	}
	close(stop)
	<-done
	t.Logf("%d of %d buffers were used, as it happened", believed, rounds*len(bufs))
}

// almostTrue writes into a used ring, mostly what could be true.
func almostTrue(used []byte, dice *rand.Rand) {
	for range 1000 {
		at, v := dice.IntN(len(used)/4), dice.Uint32N(13)
		if dice.IntN(64) == 0 {
			v = dice.Uint32()
		}
		if at == 0 {
			v <<= 16 // idx
		}
		binary.LittleEndian.PutUint32(used[4*at:], v)
	}
}
