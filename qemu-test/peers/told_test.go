package peers

import (
	"path/filepath"
	"testing"

	"github.com/vhostd/vhostd/vhost"
)

// told sums up what a back-end was told about memory.
type told struct {
	Shared     uint64 // bytes, in the end
	Tables     int    // SET_MEM_TABLE
	Adds, Rems int    // ADD_MEM_REG, REM_MEM_REG
	Disables   int    // SET_VRING_ENABLE 0
}

func sum(t *testing.T, all []Message) (s told) {
	t.Helper()
	for _, m := range all {
		switch m.Request {
		case vhost.SetMemTable:
			var table vhost.MemTable
			if err := table.UnmarshalBinary(m.Payload); err != nil {
				t.Fatal(err)
			}
			s.Tables++
			s.Shared = 0
			for _, r := range table {
				s.Shared += r.Size
			}
		case vhost.AddMemReg, vhost.RemMemReg:
			var r vhost.SingleRegion
			if err := r.UnmarshalBinary(m.Payload); err != nil {
				t.Fatal(err)
			}
			if m.Request == vhost.AddMemReg {
				s.Adds++
				s.Shared += r.Size
			} else {
				s.Rems++
				s.Shared -= r.Size
			}
		case vhost.SetVringEnable:
			var r vhost.VringState
			if err := r.UnmarshalBinary(m.Payload); err != nil {
				t.Fatal(err)
			}
			if r.Num == 0 {
				s.Disables++
			}
		}
	}
	return s
}

// The same pool as testpmd's virtio_user shares it and as we do: what a back-end
// hears of it, message by message (docs/sharing.md).
func TestAPoolIsSharedWithLessThanVirtioUserNeeds(t *testing.T) {
	if err := ReserveHugepages(t, 40); err != nil {
		t.Skip("no hugepages:", err)
	}
	// listen gives a daemon behind a tap.
	listen := func() (v *Vhostd, tap *Tap, socket string) {
		dir := shortDir(t)
		at, to := filepath.Join(dir, "tap.sock"), filepath.Join(dir, "a.sock")
		v = StartVhostd(t, "a="+to)
		return v, StartTap(t, at, to), at
	}
	v, tap, socket := listen()
	p := StartTestpmd(t, Config{
		Devices: []string{"net_virtio_user0,path=" + socket + ",queues=1,queue_size=256,mrg_rxbuf=1,in_order=0"},
		Queues:  1, Ring: 256, Huge: true, Grows: true, Mode: "io",
	})
	v.Await("virtio_user's rings", func() bool { return v.Running("a", 2) })
	theirs := sum(t, tap.Messages())
	p.Quit()

	var ours [2]told
	for i, features := range []vhost.ProtocolFeatures{0, ^vhost.ProtocolMemSlots} {
		v, tap, socket := listen()
		f := StartFront(t, eightThousand(FrontConfig{MAC: 1, Dial: socket, Pairs: 1, Size: 256, Page: hugePage, Protocol: features}))
		v.Await("the driver's rings", func() bool { return v.Running("a", 2) })
		ours[i] = sum(t, tap.Messages())
		if s := f.Link.Info().Share; s.Shared != ours[i].Shared {
			t.Errorf("the front-end counts %d bytes shared, it told of %d", s.Shared, ours[i].Shared)
		}
		f.Close()
		if last := sum(t, tap.Messages()); last.Disables != 0 {
			t.Errorf("%d rings were disabled", last.Disables)
		}
	}
	t.Logf("virtio_user: %+v\nwith slots:  %+v\nwithout:     %+v", theirs, ours[0], ours[1])
	for _, o := range ours {
		if o.Shared >= theirs.Shared || o.Tables > 1 || o.Disables > 0 {
			t.Errorf("%+v, which is no better than virtio_user's %+v", o, theirs)
		}
	}
}
