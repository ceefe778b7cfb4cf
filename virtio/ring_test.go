package virtio_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// TestARingThatAWorkerCouldNotUseIsRefused: its size, and each part's length and
// alignment, to the byte.
func TestARingThatAWorkerCouldNotUseIsRefused(t *testing.T) {
	ring := func() virtio.Ring {
		m := virtiotest.NewMemory(t, virtiotest.MemoryOptions{})
		d, err := virtiotest.NewDriver(m, virtiotest.DriverOptions{Size: 16})
		if err != nil {
			t.Fatal(err)
		}
		return d.Ring()
	}
	for _, c := range []struct {
		name  string
		spoil func(r *virtio.Ring)
		say   string // "": it is good
	}{
		{"as it should be", func(*virtio.Ring) {}, ""},
		{"available ring at 2 modulo 4", func(r *virtio.Ring) { r.Size, r.Avail = 8, r.Avail[2:] }, ""},
		{"no descriptors", func(r *virtio.Ring) { r.Size = 0 }, "power of two"},
		{"15 descriptors", func(r *virtio.Ring) { r.Size = 15 }, "power of two"},
		{"65535 descriptors", func(r *virtio.Ring) { r.Size = 65535 }, "power of two"},
		{"a short table", func(r *virtio.Ring) { r.Desc = r.Desc[:255] }, "descriptor table has 255 of 256"},
		{"a short available ring", func(r *virtio.Ring) { r.Avail = r.Avail[:37] }, "available ring has 37 of 38"},
		{"a short used ring", func(r *virtio.Ring) { r.Used = r.Used[:133] }, "used ring has 133 of 134"},
		{"a table at 8 modulo 16", func(r *virtio.Ring) { r.Size, r.Desc = 8, r.Desc[8:] }, "not aligned to 16"},
		{"an available ring at 1", func(r *virtio.Ring) { r.Size, r.Avail = 8, r.Avail[1:] }, "not aligned to 2"},
		{"a used ring at 2 modulo 4", func(r *virtio.Ring) { r.Size, r.Used = 8, r.Used[2:] }, "not aligned to 4"},
		{"no ring", func(r *virtio.Ring) { r.Desc, r.Avail, r.Used = nil, nil, nil }, "has 0 of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := ring()
			c.spoil(&r)
			err := r.Check()
			if c.say == "" && err != nil || c.say != "" && (!errors.Is(err, virtio.ErrRing) || !strings.Contains(err.Error(), c.say)) {
				t.Errorf("Check says %v, want %q", err, c.say)
			}
		})
	}
}

// TestADescriptorThatChangesWhileItIsReadIsOneOrTheOther: the driver rewrites a
// chain under the device. Whatever the device made of it lies in guest memory,
// and is as long as it says. The memory is a file: both sides really race.
func TestADescriptorThatChangesWhileItIsReadIsOneOrTheOther(t *testing.T) {
	if raceEnabled {
		t.Skip("the race is the test")
	}
	rig := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: 4, Features: virtio.FeatureIndirect}, File: true})
	raw := rig.Raw()
	if _, err := raw.Chain([]virtiotest.Desc{{Addr: 0x1000, Len: 8}}); err != nil {
		t.Fatal(err)
	}
	rig.Publish()
	versions := []virtiotest.Desc{
		{Addr: 0x1000, Len: 8}, {Addr: rig.Memory.Hole() - 16, Len: 16}, {Addr: rig.Memory.Hole(), Len: 1 << 20, Flags: virtiotest.Write},
		{Addr: 0x2000, Len: 32, Flags: virtiotest.Indirect}, {Addr: 0x1000, Len: 9, Flags: virtiotest.Next},
	}
	var stop atomic.Bool
	var driver sync.WaitGroup
	driver.Go(func() {
		for i := 0; !stop.Load(); i++ {
			raw.Desc(0, versions[i%len(versions)])
		}
	})
	var b virtio.Burst
	rig.Stay(func(q *virtio.Queue) {
		for range 200_000 {
			q.Take(&b, virtio.Both, 1)
			total := uint64(0)
			for k := range int(b.Elem[0].Segs) {
				s := b.Seg(0, k)
				total += uint64(s.Len)
				if _, rest, ok := rig.Memory.Table().Reverse(s.VA); !ok || uint64(s.Len) > rest {
					t.Fatalf("segment %+v is not in guest memory (%v, %d bytes left)", s, ok, rest)
				}
			}
			if total != uint64(b.Elem[0].Total) {
				t.Fatalf("segments have %d bytes, the chain %d", total, b.Elem[0].Total)
			}
			q.Untake(&b, 0)
			if q.Err() != nil { // the bad ones among them, taken again and again
				break
			}
		}
	})
	stop.Store(true)
	driver.Wait()
}

// TestARingErrorSaysWhatAndWhere to the operator.
func TestARingErrorSaysWhatAndWhere(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{Index: 3})
	rig.Raw().Offer(77)
	rig.Publish()
	serve(rig, virtio.Both)
	err := rig.Queue.Err()
	if err == nil {
		t.Fatal("the ring is whole")
	}
	for _, part := range []string{"ring 3", "77", virtio.ErrHead.Error()} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	rig.Driver.Restart(0)
}
