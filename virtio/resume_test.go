package virtio_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// TestWhatIsGivenBackInVainStaysInItsPlace: a receive queue has more buffers
// taken than filled, again and again. Whether the device is stopped then or
// dies, the next one fills the others in their order, after another number of
// them was tried in vain.
func TestWhatIsGivenBackInVainStaysInItsPlace(t *testing.T) {
	var b virtio.Burst
	for _, dies := range []bool{false, true} {
		m := newMortal(t, 16)
		m.offer(9, 4, 7, 1, 12, 3)
		base := virtio.Position(0)
		for fill := range 3 {
			must(t, m.begin(base))
			if at := m.Queue.Position(); at != virtio.Position(len(m.usedHeads())) {
				t.Errorf("position %d, and %d came back", at, len(m.usedHeads()))
			}
			m.Stay(func(q *virtio.Queue) {
				for range fill {
					q.Take(&b, virtio.Writable, 3-fill)
					q.Untake(&b, 1)
					q.Put(&b)
					q.Publish()
				}
				q.Take(&b, virtio.Writable, 5)
				if more := q.Arm(); !more && len(m.usedHeads())+b.N < 6 {
					t.Error("armed, and there is more")
				}
			})
			if !dies {
				m.Stop()
				base = m.Queue.Position()
			}
		}
		must(t, m.begin(base))
		for len(m.usedHeads()) < 6 {
			m.Stay(func(q *virtio.Queue) {
				if q.Take(&b, virtio.Writable, 2) == 0 {
					t.Fatalf("nothing is there behind %v", m.usedHeads())
				}
				q.Put(&b)
				q.Publish()
			})
		}
		if got := m.usedHeads(); !slices.Equal(got, m.offered) {
			t.Errorf("buffers %v were used, want %v", got, m.offered)
		}
	}
}

// TestARecordCostsNoAllocation in a burst.
func TestARecordCostsNoAllocation(t *testing.T) {
	const runs, burst = 100, 8
	rig := loaded(t, shapes["direct"], burst*(runs+2), false)
	r, err := virtio.NewRecord(make([]byte, virtio.RecordSize(rig.Size)), rig.Size)
	must(t, err)
	must(t, rig.Queue.Resume(rig.View.Ring, r, 0))
	v := rig.View
	v.Inflight = r
	rig.Queue.Configure(&v)
	var b virtio.Burst
	if n := testing.AllocsPerRun(runs, func() {
		rig.Stay(func(q *virtio.Queue) {
			q.Take(&b, virtio.Writable, burst)
			q.Put(&b)
			q.Publish()
		})
	}); n != 0 {
		t.Errorf("%v allocations a burst", n)
	}
}

// FuzzRecord has a device go on by a record of any bytes, with a used ring and an
// available ring of any index. It refuses it, or serves no more than the ring is
// long beside what was made available, and stays in step with its own record.
func FuzzRecord(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 3, 0, 2, 0, 1}, uint16(4), uint16(3))
	f.Add([]byte{8: 1, 10: 8, 12: 200, 14: 0}, uint16(8), uint16(8))
	f.Add([]byte{8: 1, 10: 8, 16: 1, 32: 1, 48: 1, 64: 1, 143: 1}, uint16(2), uint16(0))
	f.Add([]byte{8: 1, 10: 9}, uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, raw []byte, avail, used uint16) {
		rig := virtiotest.New(t, virtiotest.Options{})
		const size = 8
		mem := make([]byte, virtio.RecordSize(size))
		copy(mem, raw)
		page := make([]byte, 1024)
		ring := virtio.Ring{Size: size, Desc: page[:128], Avail: page[256:], Used: page[512:]}
		for i := range size {
			binary.LittleEndian.PutUint64(ring.Desc[16*i:], 0x1000)
			binary.LittleEndian.PutUint32(ring.Desc[16*i+8:], 8)
			ring.Desc[16*i+12] = virtiotest.Write
		}
		binary.LittleEndian.PutUint16(ring.Avail[2:], avail)
		binary.LittleEndian.PutUint16(ring.Used[2:], used)
		r, err := virtio.NewRecord(mem, size)
		if err != nil {
			return
		}
		before := rig.Queue.Position()
		if err := rig.Queue.Resume(ring, r, 0); err != nil {
			if !errors.Is(err, virtio.ErrRecord) || rig.Queue.Position() != before {
				t.Fatalf("%v; position %d", err, rig.Queue.Position())
			}
			return
		}
		v := rig.View
		v.Ring, v.Inflight = ring, r
		rig.Queue.Configure(&v)
		var b virtio.Burst
		served := 0
		rig.Stay(func(q *virtio.Queue) {
			for q.Take(&b, virtio.Writable, 3) > 0 {
				if served += b.N; served > 2*size {
					t.Fatalf("%d chains of a ring of %d", served, size)
				}
				q.Put(&b)
				q.Publish()
			}
		})
		if got := binary.LittleEndian.Uint16(mem[14:]); got != used+uint16(served) {
			t.Errorf("the record's used index is %d after %d and %d chains", got, used, served)
		}
		for i := range size {
			if served > 0 && rig.Queue.Err() == nil && mem[16+16*i] != 0 {
				t.Errorf("descriptor %d is still in flight", i)
			}
		}
	})
}

// TestARecordWhoseMemoryIsShortIsRefused, or is not aligned.
func TestARecordWhoseMemoryIsShortIsRefused(t *testing.T) {
	for n, mem := range map[uint16][]byte{
		0: make([]byte, 64), 8: make([]byte, 191), virtio.MaxSize: make([]byte, 64), 1: make([]byte, 68)[4:],
	} {
		if _, err := virtio.NewRecord(mem, n); err == nil {
			t.Errorf("%d bytes are a record of %d descriptors", len(mem), n)
		}
	}
}
