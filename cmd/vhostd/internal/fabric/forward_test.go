package fabric

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/vhostd/vhostd/vhost/vhosttest"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// quiet is how long to listen for what must not come.
const quiet = 20 * time.Millisecond

func TestFramesArriveWholeWhateverTheRingsLookLike(t *testing.T) {
	sizes := []int{14, 60, 61, 1514, 1700, 9014, 65549}
	for _, features := range []virtio.Features{0, virtio.FeatureEventIdx, virtio.FeatureInOrder, virtio.FeatureEventIdx | virtio.FeatureInOrder} {
		for _, o := range []vhosttest.Options{
			{Buffer: 66000},
			{Buffer: 66000, Split: true},
			{Buffer: 66000, Indirect: true, Features: virtio.FeatureIndirect},
			{Buffer: 2048, Features: vnet.FeatureMrgRxbuf},
			{Buffer: 1536, Features: vnet.FeatureMrgRxbuf | virtio.FeatureIndirect, Indirect: true, Table: true},
		} {
			o.Features |= modern | features
			t.Run(fmt.Sprintf("%v buffer %d split %v", o.Features.Names(virtio.Net), o.Buffer, o.Split), func(t *testing.T) {
				h := open(t, 2, PortOptions{})
				a, b := h.plug(0, o), h.plug(1, o)
				h.greet(a, b)
				for mark, size := range sizes {
					frame := vhosttest.Frame(address(1), address(0), size, byte(mark))
					a.Send(frame)
					if got := b.Recv(vhosttest.Timeout); !bytes.Equal(got, frame) {
						t.Fatalf("a frame of %d bytes arrived as %d bytes, equal: false", size, len(got))
					}
				}
			})
		}
	}
}

func TestALegacyDriverHasTheShorterHeader(t *testing.T) {
	h := open(t, 2, PortOptions{})
	legacy := vhosttest.Options{Features: virtio.FeatureAnyLayout | vnet.FeatureCSUM}
	a, b := h.plug(0, legacy), h.plug(1, vhosttest.Options{})
	if a.Features.Has(modern) {
		t.Fatal("VERSION_1 was negotiated")
	}
	h.greet(a, b)
	for _, way := range []struct {
		from, to *vhosttest.Guest
		dst, src [6]byte
	}{{a, b, address(1), address(0)}, {b, a, address(0), address(1)}} {
		frame := vhosttest.Frame(way.dst, way.src, 777, 9)
		way.from.Send(frame)
		if got := way.to.Recv(vhosttest.Timeout); !bytes.Equal(got, frame) {
			t.Fatalf("%d bytes arrived of %d", len(got), len(frame))
		}
	}
}

func TestUnknownAndGroupAddressesGoToAllOthers(t *testing.T) {
	h := open(t, 4, PortOptions{}) // nobody is at the fourth
	guests := []*vhosttest.Guest{h.plug(0, vhosttest.Options{}), h.plug(1, vhosttest.Options{}), h.plug(2, vhosttest.Options{})}
	for name, dst := range map[string][6]byte{
		"unknown": {2, 9, 9, 9, 9, 9}, "broadcast": broadcast, "multicast": {1, 0, 0x5e, 0, 0, 1}, "link-local": {1, 0x80, 0xc2, 0, 0, 0x0e},
	} {
		frame := vhosttest.Frame(dst, address(0), 99, 1)
		guests[0].Send(frame)
		for i, g := range guests[1:] {
			if got := g.Recv(vhosttest.Timeout); !bytes.Equal(got, frame) {
				t.Errorf("%s: guest %d got %d bytes", name, i+1, len(got))
			}
		}
		if got := guests[0].Recv(quiet); got != nil {
			t.Errorf("%s: came back to its sender", name)
		}
	}
}

func TestAKnownAddressGoesToItsPortOnly(t *testing.T) {
	h := open(t, 3, PortOptions{})
	a, b, c := h.plug(0, vhosttest.Options{}), h.plug(1, vhosttest.Options{}), h.plug(2, vhosttest.Options{})
	h.greet(a, b, c)
	a.Send(vhosttest.Frame(address(1), address(0), 60, 1))
	if b.Recv(vhosttest.Timeout) == nil {
		t.Fatal("nothing came to the port of the address")
	}
	if c.Recv(quiet) != nil {
		t.Fatal("a third port got the frame too")
	}
	if macs := h.sw.MACs(); len(macs) != 3 || macs[1].Port != "p1" {
		t.Fatalf("learned: %v", macs)
	}
	b.Unplug()
	h.until("address forgotten with its port", func() bool { return len(h.sw.MACs()) == 2 })
}

func TestFramesThatCannotGoAreCountedByReason(t *testing.T) {
	h := open(t, 3, PortOptions{})
	all := modern | vnet.FeatureCSUM | vnet.FeatureHostTSO4
	a, b := h.plug(0, vhosttest.Options{Features: all}), h.plug(1, vhosttest.Options{})
	h.greet(a, b)
	send := func(hdr vnet.Header, frame []byte) {
		a.Pairs[0].TX.Add(hdr, frame)
		a.Pairs[0].TX.Publish()
	}
	to := vhosttest.Frame(address(1), address(0), 200, 0)
	csum := vnet.Header{Flags: vnet.NeedsCsum, CsumStart: 34, CsumOffset: 16}
	tso := vnet.Header{Flags: vnet.NeedsCsum, CsumStart: 34, CsumOffset: 16, GSOType: vnet.GSOTCPv4, GSOSize: 100}
	outside, unknown, unasked := csum, tso, tso
	outside.CsumStart, unknown.GSOType, unasked.GSOType = 199, 3, vnet.GSOTCPv6
	for _, c := range []struct {
		port int
		why  Reason
		hdr  vnet.Header
		data []byte
	}{
		{0, BadSource, vnet.Header{}, vhosttest.Frame(address(1), broadcast, 60, 0)},
		{0, BadSource, vnet.Header{}, vhosttest.Frame(address(1), [6]byte{}, 60, 0)},
		{0, Hairpin, vnet.Header{}, vhosttest.Frame(address(0), address(0), 60, 0)},
		{0, Runt, vnet.Header{}, to[:13]},
		{0, Reason(vnet.BadCsum), outside, to},
		{0, Reason(vnet.BadGSO), unknown, to},
		{0, Reason(vnet.NotNegotiated), unasked, to},
		{1, Reason(vnet.NoCsum), csum, to},
		{1, TooSmall, vnet.Header{}, vhosttest.Frame(address(1), address(0), 2049, 0)},
	} {
		before := h.ports[c.port].Stats().Drops[c.why.String()]
		send(c.hdr, c.data)
		h.dropped(c.port, c.why, before+1)
	}
	if b.Recv(quiet) != nil {
		t.Fatal("one of them was delivered all the same")
	}
	// A frame that can go still goes, through the same buffer.
	send(vnet.Header{}, to)
	if got := b.Recv(vhosttest.Timeout); !bytes.Equal(got, to) {
		t.Fatal("a good frame after the bad ones was lost")
	}
}

func TestOffloadsPassWhereBothSidesHaveThem(t *testing.T) {
	h := open(t, 2, PortOptions{})
	all := modern | vnet.FeatureCSUM | vnet.FeatureHostTSO4 | vnet.FeatureGuestCSUM | vnet.FeatureGuestTSO4 | vnet.FeatureMrgRxbuf
	a, b := h.plug(0, vhosttest.Options{Features: all}), h.plug(1, vhosttest.Options{Features: all, Buffer: 1600})
	h.greet(a, b)
	want := vnet.Header{Flags: vnet.NeedsCsum, GSOType: vnet.GSOTCPv4, HdrLen: 54, GSOSize: 1448, CsumStart: 34, CsumOffset: 16}
	frame := vhosttest.Frame(address(1), address(0), 40000, 3)
	a.Pairs[0].TX.Add(want, frame)
	a.Pairs[0].TX.Publish()
	if !b.Pairs[0].RX.Wait(time.Now().Add(vhosttest.Timeout)) {
		t.Fatal("nothing came")
	}
	buf := make([]byte, 70000)
	got, n := b.Pairs[0].RX.Next(buf)
	want.NumBuffers = 26 // 40012 bytes in buffers of 1600
	if got != want || !bytes.Equal(buf[:n], frame) {
		t.Fatalf("header %+v, want %+v; %d bytes", got, want, n)
	}
}

func TestAMigratedGuestIsAnnounced(t *testing.T) {
	h := open(t, 2, PortOptions{})
	a, b := h.plug(0, vhosttest.Options{}), h.plug(1, vhosttest.Options{})
	if err := a.Conn.SendRARP(address(0)); err != nil {
		t.Fatal(err)
	}
	got := b.Recv(vhosttest.Timeout)
	if len(got) != 60 || [6]byte(got[:6]) != broadcast || [6]byte(got[6:12]) != address(0) || got[12] != 0x80 || got[13] != 0x35 {
		t.Fatalf("not a RARP broadcast: % x", got)
	}
	if macs := h.sw.MACs(); len(macs) != 1 || macs[0].Port != "p0" {
		t.Fatalf("learned: %v", macs)
	}
}

func TestADisabledTransmitQueueIsDrainedAndDropped(t *testing.T) {
	h := open(t, 2, PortOptions{})
	a, b := h.plug(0, vhosttest.Options{}), h.plug(1, vhosttest.Options{})
	h.greet(a, b)
	if err := a.Conn.SetVringEnable(1, false); err != nil {
		t.Fatal(err)
	}
	a.Send(vhosttest.Frame(address(1), address(0), 60, 1))
	h.dropped(0, Disabled, 1)
	h.until("descriptor given back", func() bool { return a.Pairs[0].TX.Reap() > 0 })
	if err := a.Conn.SetVringEnable(1, true); err != nil {
		t.Fatal(err)
	}
	a.Send(vhosttest.Frame(address(1), address(0), 60, 2))
	if got := b.Recv(vhosttest.Timeout); got == nil || got[14] != 2 {
		t.Fatalf("after it was enabled: % x", got)
	}
}
