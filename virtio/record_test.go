package virtio_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// cutSize makes a record of more than four pages: its header is on the first,
// and each of cutHeads has its entry on another.
const cutSize = 1024

var cutHeads = []uint16{300, 520, 900, 700, 3}

// mortal is a ring whose device dies, and the record that outlives it. The
// record lies in pages that can be closed to writing: then the device dies at
// its first store there.
type mortal struct {
	*virtiotest.Rig
	tb      testing.TB
	mem     []byte
	offered []uint16
}

func newMortal(tb testing.TB, size uint16) *mortal {
	tb.Helper()
	m := &mortal{tb: tb}
	m.Rig = virtiotest.New(tb, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: size}})
	var err error
	m.mem, err = unix.Mmap(-1, 0, int(virtio.RecordSize(size)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
	if err != nil {
		tb.Fatal(err)
	}
	memtable.Wrap(m.mem, memtable.FileID{Ino: 7}, 0, m) // blamed for faults
	tb.Cleanup(func() { _ = unix.Munmap(m.mem) })
	return m
}

// offer makes heads available, each with a buffer of 8 bytes.
func (m *mortal) offer(heads ...uint16) {
	for _, h := range heads {
		m.Raw().Desc(h, virtiotest.Desc{Addr: 0x1000, Len: 8, Flags: virtiotest.Write})
		m.Raw().Offer(h)
	}
	m.Publish()
	m.offered = append(m.offered, heads...)
}

// begin starts another device's queue, told a base that is wrong.
func (m *mortal) begin(base virtio.Position) error {
	r, err := virtio.NewRecord(m.mem, m.Size)
	if err != nil {
		return err
	}
	q := virtio.NewQueue(virtio.QueueOptions{})
	if err := q.Resume(m.View.Ring, r, base); err != nil {
		return err
	}
	m.Queue, m.View.Inflight = q, r
	v := m.View
	q.Configure(&v)
	return nil
}

// usedHeads is what came back, from the ring's first use on.
func (m *mortal) usedHeads() (heads []uint16) {
	used := m.View.Ring.Used
	for i := range binary.LittleEndian.Uint16(used[2:]) {
		heads = append(heads, uint16(binary.LittleEndian.Uint32(used[4+8*int(i%m.Size):])))
	}
	return heads
}

// step is where a device dies.
type step struct {
	op   string // during it or, without a page, behind it
	page int    // at the first store to that page of the record; -1: none is cut
}

// live serves one burst, the second chain before the first, and dies on the way.
func (m *mortal) live(b *virtio.Burst, die step) {
	m.tb.Helper()
	page, prot := os.Getpagesize(), unix.PROT_READ
	if raceEnabled {
		prot = unix.PROT_NONE // the detector survives no fault of an atomic store, but of the load before
	}
	_ = memtable.Guard(func() error {
		m.Stay(func(q *virtio.Queue) {
			for _, op := range []string{"take", "put", "publish"} {
				if op == die.op && die.page >= 0 {
					closed := m.mem[die.page*page : min(len(m.mem), (die.page+1)*page)]
					must(m.tb, unix.Mprotect(closed, prot))
					defer func() { must(m.tb, unix.Mprotect(closed, unix.PROT_READ|unix.PROT_WRITE)) }()
				}
				switch op {
				case "take":
					q.Take(b, virtio.Writable, 3)
				case "put":
					if b.N > 1 {
						b.Elem[0], b.Elem[1] = b.Elem[1], b.Elem[0]
					}
					q.Put(b)
				case "publish":
					q.Publish()
				}
				if op == die.op {
					return
				}
			}
		})
		return nil
	})
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// deaths are all the places to die at.
func deaths() (all []step) {
	for _, op := range []string{"take", "put", "publish"} {
		for page := -1; page < 5; page++ {
			all = append(all, step{op, page})
		}
	}
	return append(all, step{"never", -1})
}

// TestWhereverADeviceDiesEachChainComesBackOnce: two devices die, one after the
// other, at any store to the record and between any two steps, and a third does
// the rest. What came back before does not come back again, whatever base the
// front-end tells.
func TestWhereverADeviceDiesEachChainComesBackOnce(t *testing.T) {
	var b virtio.Burst
	for _, first := range deaths() {
		for _, second := range deaths() {
			t.Run(fmt.Sprintf("%v then %v", first, second), func(t *testing.T) {
				m := newMortal(t, cutSize)
				m.offer(cutHeads...)
				for _, die := range []step{first, second} {
					must(t, m.begin(77))
					m.live(&b, die)
				}
				m.offer(41, 42)
				must(t, m.begin(78))
				for range 4 {
					m.live(&b, step{"never", -1})
				}
				got := m.usedHeads()
				slices.Sort(got)
				slices.Sort(m.offered)
				if !slices.Equal(got, m.offered) {
					t.Errorf("heads %v came back, of %v", got, m.offered)
				}
			})
		}
	}
}
