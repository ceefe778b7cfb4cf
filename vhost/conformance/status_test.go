package conformance

import (
	"testing"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// Rule 107 (QEMU 7.2 behaviour): a new connection has status 0, whatever the one before it had.
func TestStatusBeginsAtZero(t *testing.T) {
	f := plug(t, entropy(), options{})
	for _, want := range []uint8{0, 0x01, 0x08, 0x0f} {
		if want != 0 {
			must(t, f.SetStatus(want))
		}
		if got, err := f.GetStatus(); err != nil || got != want {
			t.Errorf("status %#x, %v; want %#x", got, err, want)
		}
	}
	f.Close()
	must(t, f.b.end())
	f = f.b.dial()
	f.agree(options{})
	if got, err := f.GetStatus(); err != nil || got != 0 {
		t.Errorf("after a new connection: status %#x, %v", got, err)
	}
}

// Rule 108★ (QEMU 7.2 behaviour): rings run whatever the device status is: for some devices DRIVER_OK never comes.
func TestRingsRunWithoutDriverOK(t *testing.T) {
	for name, o := range map[string]options{"STATUS agreed on": {}, "without STATUS": {without: vhost.ProtocolStatus}} {
		t.Run(name, func(t *testing.T) {
			f := plug(t, entropy(), o)
			if o.without == 0 {
				must(t, f.SetStatus(0x08))
			}
			r := f.ring(0)
			r.start()
			r.works()
			if o.without == 0 {
				must(t, f.SetStatus(0))
				r.works()
			}
		})
	}
}

// Rule 109★ (vhost-user, RESET_DEVICE): rings are stopped and disabled and the device's state is reset; memory, protocol features, owner, channel, and call and error files stay.
func TestResetDeviceKeepsWhatIsTheConnections(t *testing.T) {
	dev := withConfig()
	f := plug(t, dev, options{features: virtio.FeatureEventIdx})
	s := f.session()
	channel := f.channel()
	r := f.ring(0)
	r.start()
	r.works()
	must(t, f.SetStatus(0x0f))
	dev.said()
	f.acked(vhost.ResetDevice, nil) // protocol features stay: it is acknowledged
	if said := dev.said(); len(said) != 2 || said[0] != "ring 0 stopped" || said[1] != "reset" {
		t.Errorf("the device heard %q", said)
	}
	if got, err := f.GetStatus(); err != nil || got != 0 {
		t.Errorf("status %#x, %v", got, err)
	}
	takeSignal(r.call)
	r.begin(0)
	r.lay()
	must(t, f.SetVringNum(0, ringSize))
	must(t, f.SetVringAddr(r.addr()))
	must(t, f.SetVringKick(0, r.kick))
	r.ringKick()
	if base := r.stop(); base != 0 {
		t.Fatalf("a ring that was disabled by the reset was served up to %d", base)
	}
	must(t, f.SetVringCall(0, r.call)) // GET_VRING_BASE took it
	must(t, f.SetVringEnable(0, true))
	must(t, f.SetVringKick(0, r.kick))
	r.returned() // in the memory that is there
	must(t, f.ResetDevice())
	r.begin(0)
	takeSignal(r.call)
	must(t, f.SetVringNum(0, ringSize))
	must(t, f.SetVringAddr(r.addr()))
	must(t, f.SetVringEnable(0, true))
	must(t, f.SetVringKick(0, r.kick))
	r.works()
	f.signalled(r.call)
	must(t, s.NotifyConfig())
	receive(t, "a message on the channel", channel.hear())
	r.offer(ringSize)
	r.ringKick()
	f.signalled(r.err)
}

// Rule 110★ (QEMU 7.2 behaviour): while the device waits for the answer to its CONFIG_CHANGE_MSG the main socket is served: the front-end reads the config space before it answers.
func TestMainSocketIsServedWhileTheChannelWaits(t *testing.T) {
	dev := withConfig()
	dev.space[3] = 7
	f := plug(t, dev, options{})
	s := f.session()
	channel := f.channel()
	r := f.ring(0)
	r.start()
	notify := func() {
		t.Helper()
		within(t, "the device goes on", func() {
			if err := s.NotifyConfig(); err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 {
		notify()
		m := receive(t, "the change is told", channel.hear())
		if m.request != configChange || m.flags != version|needReply || len(m.payload) != 0 {
			t.Fatalf("message %+v", m)
		}
		notify() // while one is not answered
		if p, err := f.GetConfig(0, 8); err != nil || p[3] != 7 {
			t.Fatalf("config %x, %v", p, err)
		}
		r.works()
		must(t, channel.Send(configChange, version|isReply, payloadOf(vhost.U64(0))))
		receive(t, "the second change is told", channel.hear())
		must(t, channel.Send(configChange, version|isReply, payloadOf(vhost.U64(0))))
	}
}

// Rule 111 (QEMU behaviour): when the front-end closes the channel the device goes on without it, until another one comes.
func TestDeviceGoesOnWithoutItsChannel(t *testing.T) {
	f := plug(t, withConfig(), options{})
	s := f.session()
	r := f.ring(0)
	r.start()
	for range 3 {
		channel := f.channel()
		must(t, s.NotifyConfig())
		receive(t, "the change is told", channel.hear())
		must(t, channel.Close()) // and no answer came
		must(t, s.NotifyConfig())
		f.alive()
		r.works()
	}
	channel := f.channel()
	must(t, s.NotifyConfig())
	receive(t, "the change is told on the last channel", channel.hear())
}

// Rule 116 (vhost-user, NET_SET_MTU): an MTU that comes before SET_FEATURES is held against what can be and what the device bears, and acknowledged.
func TestMTUMayComeBeforeFeatures(t *testing.T) {
	dev := network()
	f := connect(t, dev)
	p, err := f.GetProtocolFeatures()
	must(t, err)
	must(t, f.SetProtocolFeatures(p))
	mtu := func(n uint64) []byte { return payloadOf(vhost.U64(n)) }
	f.acked(vhost.NetSetMTU, mtu(68))
	f.acked(vhost.NetSetMTU, mtu(1500))
	for _, bad := range []uint64{0, 67, 9001, 65536, 1<<16 + 1500, 1 << 63} {
		f.nacked(vhost.NetSetMTU, mtu(bad))
	}
	f.agree(options{})
	f.acked(vhost.NetSetMTU, mtu(9000))
	if n := f.session().Info().MTU; n != 9000 {
		t.Errorf("the MTU is %d, want 9000", n)
	}
}
