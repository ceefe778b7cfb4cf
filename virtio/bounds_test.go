package virtio_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// TestABurstOfLongChainsIsBounded: a driver offers the longest chain as often as
// the ring has room, good and bad. No burst walks through more than a few
// thousand descriptors beside the last chain's, and each chain comes in the end.
func TestABurstOfLongChainsIsBounded(t *testing.T) {
	const size, offered = 2048, 32
	const bound = 4096/size + 1
	for name, final := range map[string]uint16{"good": virtiotest.Write, "bad at the end": 0} {
		t.Run(name, func(t *testing.T) {
			rig := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: size}})
			raw := rig.Raw()
			buffer, err := raw.Buffer(16)
			if err != nil {
				t.Fatal(err)
			}
			for i := range uint16(size - 1) {
				raw.Desc(i, virtiotest.Desc{Addr: buffer.Addr, Len: 1, Flags: virtiotest.Write | virtiotest.Next, Next: i + 1})
			}
			raw.Desc(size-1, virtiotest.Desc{Addr: buffer.Addr, Len: 1, Flags: final})
			for i := range uint16(offered) {
				raw.Head(i, 0)
			}
			raw.Index(offered)
			rig.Stay(func(q *virtio.Queue) {
				var b virtio.Burst
				taken := 0
				for q.Take(&b, virtio.Writable, virtio.BurstMax) > 0 {
					if b.N > bound {
						t.Fatalf("a burst of %d chains of %d descriptors", b.N, size)
					}
					taken += b.N
					q.Put(&b)
				}
				if taken != offered {
					t.Errorf("%d chains of %d were taken", taken, offered)
				}
			})
		})
	}
}

// TestBeginTouchesNoGuestMemory: the memory of a ring may vanish before a worker
// comes to a queue that others share; the gate must not stay shut.
func TestBeginTouchesNoGuestMemory(t *testing.T) {
	const size = 1 << 14
	fd, err := unix.MemfdCreate("ring", unix.MFD_CLOEXEC)
	if err != nil {
		t.Skipf("no memfd: %v", err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, size); err != nil {
		t.Fatal(err)
	}
	m, err := memtable.MapFile(fd, 0, size, memtable.MapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	table, err := memtable.New([]memtable.Region[memtable.GPA]{{Size: size, Mem: m}}, memtable.Options{})
	if err != nil {
		t.Fatal(err)
	}
	q := virtio.NewQueue(virtio.QueueOptions{Shared: true})
	q.Configure(&virtio.View{Mem: table, Enabled: true, Ring: virtio.Ring{
		Size: 8, Desc: m.Bytes()[:4096], Avail: m.Bytes()[4096:8192], Used: m.Bytes()[8192:],
	}})
	if err := unix.Ftruncate(fd, 0); err != nil {
		t.Fatal(err)
	}
	var domain memtable.Domain
	r := domain.Join("worker")
	defer r.Close()
	r.Enter()
	defer r.Leave()
	if err := memtable.Guard(func() error { q.Begin(r); return nil }); err != nil {
		t.Errorf("Begin: %v", err)
	} else {
		q.End()
	}
	if a := q.Begin(r); a != virtio.Open {
		t.Errorf("the next worker is told %d, not Open", a)
	}
}
