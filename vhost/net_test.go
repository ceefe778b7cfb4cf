package vhost

import (
	"errors"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/virtio"
)

// netDevice is a filler of two queue pairs that remembers what it was told.
type netDevice struct {
	*filler
	mu    sync.Mutex
	heard []string
}

type netDeviceHandler struct {
	fillerHandler
	d *netDevice
}

func newNetDevice() *netDevice {
	return &netDevice{filler: newFiller(Spec{ID: virtio.Net, Queues: 4, Features: netMTU | 1<<15, Shared: func(i int) bool { return i%2 == 0 }})}
}

func (d *netDevice) Open(s *Session) (Handler, error) {
	h, err := d.filler.Open(s)
	return &netDeviceHandler{h.(fillerHandler), d}, err
}

func (d *netDevice) hear(s string) { d.mu.Lock(); d.heard = append(d.heard, s); d.mu.Unlock() }

// said gives what was heard since it was asked last.
func (d *netDevice) said() (s []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, d.heard = d.heard, nil
	return s
}

func (h *netDeviceHandler) SetMTU(mtu uint16) error {
	if mtu > 9000 {
		return errors.New("no frame of that size passes")
	}
	h.d.hear("mtu")
	return nil
}

func (h *netDeviceHandler) Announce(mac [6]byte) {
	if mac == [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56} {
		h.d.hear("announce")
	}
}

func (h *netDeviceHandler) Negotiated(f virtio.Features) { h.d.hear("negotiated") }
func (h *netDeviceHandler) Reset()                       { h.d.hear("reset") }

func (h *netDeviceHandler) RingChanged(i int, v *virtio.View) {
	switch {
	case v == nil:
		h.d.hear("stop")
	case v.Enabled:
		h.d.hear("enabled")
	default:
		h.d.hear("disabled")
	}
}

func wantSaid(t *testing.T, d *netDevice, want ...string) {
	t.Helper()
	got := d.said()
	if len(got) != len(want) {
		t.Fatalf("heard %q, want %q", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("heard %q, want %q", got, want)
		}
	}
}

func TestNetDeviceHearsWhatItIsTold(t *testing.T) {
	noLeaks(t)
	d := newNetDevice()
	c, ended := serve(t, &Server{Device: d})
	p, err := c.GetProtocolFeatures()
	ok(t, err)
	ok(t, c.SetProtocolFeatures(p))
	if n, err := c.GetQueueNum(); err != nil || n != 2 {
		t.Errorf("GET_QUEUE_NUM: %d, %v; QEMU wants pairs", n, err)
	}
	ok(t, c.NetSetMTU(1500)) // before SET_FEATURES
	wantSaid(t, d, "mtu")
	for _, bad := range []uint64{67, 65536, 9001, 1<<16 + 1500} {
		refusedBy(t, c, c.tell(NetSetMTU, U64(bad)))
	}
	ok(t, c.SetFeatures(virtio.FeatureProtocol|virtio.FeatureVersion1))
	wantSaid(t, d, "negotiated")
	for range 5 {
		ok(t, c.SendRARP([6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}))
	}
	wantSaid(t, d, "announce", "announce", "announce", "announce", "announce")

	g := newGuest(t, 0x10000)
	ok(t, c.AddMemReg(g.region, g.fd))
	g.start(t, c, 1, 0)
	wantSaid(t, d, "disabled", "enabled")
	ok(t, c.SetFeatures(virtio.FeatureProtocol|virtio.FeatureVersion1)) // the second pair's
	wantSaid(t, d)
	g.filled(t)
	ok(t, c.ResetDevice())
	wantSaid(t, d, "stop", "reset")
	g.takeBack()
	g.start(t, c, 1, virtio.Position(g.avail))
	g.filled(t)
	d.said()
	c.Close()
	ok(t, dies(t, ended))
	wantSaid(t, d, "stop")
}

// Who fills a shared ring is not the session's: it gives it no worker.
func TestSharedRingIsNotServedBySession(t *testing.T) {
	noLeaks(t)
	d := newNetDevice()
	c, _ := dialogue(t, &Server{Device: d})
	s := <-d.opened
	g := newGuest(t, 0x10000)
	ok(t, c.AddMemReg(g.region, g.fd))
	g.start(t, c, 0, 0)
	g.post()
	r := s.runner.Domain().Join("filler")
	defer r.Close()
	r.Enter()
	if s.Queue(0).Begin(r) != virtio.Open {
		t.Fatal("the ring does not run")
	}
	_ = fillerHandler{d.filler}.Serve(s.Queue(0))
	s.Queue(0).End()
	r.Leave()
	if g.used() != 1 {
		t.Error("nothing came back")
	}
	wantBase(t, c, 0, 1)
}

func TestInfoTellsWhileTheSessionRuns(t *testing.T) {
	noLeaks(t)
	device := newFiller(twoRings)
	c, g, ended := running(t, &Server{Device: device})
	s := <-device.opened
	var asking sync.WaitGroup
	stop := make(chan struct{})
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.Info()
			}
		}
	})
	for range 50 {
		ok(t, c.RemMemReg(g.region))
		ok(t, c.AddMemReg(g.region, g.fd))
		g.filled(t)
	}
	i := s.Info()
	r := i.Rings[0]
	if !r.Started || !r.Enabled || r.Size != ringSize || r.Indices.LastAvail != g.avail || r.Indices.UsedIdx != g.avail {
		t.Errorf("ring: %+v, %d were served", r, g.avail)
	}
	s.Resident(i.Memory.Regions)
	if len(i.Memory.Regions) != 1 || i.Memory.Regions[0].Resident == 0 {
		t.Errorf("memory: %+v", i.Memory)
	}
	if n := len(i.Messages); n != historyMax || i.Messages[n-1].Request != "ADD_MEM_REG" || i.Messages[n-1].Result != "ok" {
		t.Errorf("%d messages, the last: %+v", n, i.Messages[n-1])
	}
	c.Close()
	dies(t, ended)
	close(stop)
	asking.Wait()
	if i := s.Info(); len(i.Memory.Regions) != 0 || i.Rings[0].Started {
		t.Errorf("after the end: %+v", i)
	}
}
