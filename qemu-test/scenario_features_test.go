package qemutest

import (
	"context"
	"testing"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

// Feature bits (virtio 1.2, 5.1.3 and 6).
const (
	bitCsum      = 0
	bitGuestCsum = 1
	bitMTU       = 3
	bitGuestTSO4 = 7
	bitGuestTSO6 = 8
	bitHostTSO4  = 11
	bitHostTSO6  = 12
	bitMrgRxbuf  = 15
	bitMQ        = 22
	bitIndirect  = 28
	bitEventIdx  = 29
	bitVersion1  = 32
	bitPacked    = 34
)

// usual are agreed on when nobody has something against it.
var usual = []int{
	bitCsum, bitGuestCsum, bitGuestTSO4, bitGuestTSO6, bitHostTSO4, bitHostTSO6,
	bitMrgRxbuf, bitIndirect, bitEventIdx, bitVersion1,
}

// optional are all bits a link of the test says something about.
var optional = append([]int{bitMTU, bitMQ, bitPacked}, usual...)

// difference is a link whose ends agree on other features than the usual ones.
type difference struct {
	link
	plusA, minusA []int
	plusB, minusB []int
}

var (
	guestOffloads = []int{bitGuestCsum, bitGuestTSO4, bitGuestTSO6}
	hostOffloads  = []int{bitCsum, bitHostTSO4, bitHostTSO6}
)

// differences: what one end may send, the other takes. An end that takes less is
// spared by features= at the other end's port, as an operator would do it.
var differences = []difference{
	{link: link{name: "usual"}},
	{link: link{name: "unmerged", a: "mrg_rxbuf=off"}, minusA: []int{bitMrgRxbuf}},
	{link: link{name: "noevent", b: "event_idx=off"}, minusB: []int{bitEventIdx}},
	{link: link{name: "direct", a: "indirect_desc=off"}, minusA: []int{bitIndirect}},
	{link: link{name: "bare", a: "mrg_rxbuf=off,event_idx=off,indirect_desc=off"},
		minusA: []int{bitMrgRxbuf, bitEventIdx, bitIndirect}},
	{link: link{name: "unsegmented", a: "guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off",
		forB: "features=-host_tso4,-host_tso6,-host_ecn"},
		minusA: []int{bitGuestTSO4, bitGuestTSO6}, minusB: []int{bitHostTSO4, bitHostTSO6}},
	{link: link{name: "summed", a: "guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off",
		forB: "features=-csum,-host_tso4,-host_tso6,-host_ecn"},
		minusA: guestOffloads, minusB: hostOffloads},
	{link: link{name: "oneway", a: "csum=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off"}, minusA: hostOffloads},
	{link: link{name: "announced", a: "host_mtu=2000", b: "host_mtu=2000", forA: "mtu=2000", forB: "mtu=2000", mtu: 2000},
		plusA: []int{bitMTU}, plusB: []int{bitMTU}},
	{link: link{name: "queues", pairs: 2}, plusA: []int{bitMQ}, plusB: []int{bitMQ}},
}

func TestFeaturesOfTheEndsMayDiffer(t *testing.T) {
	l, ctx := newLab(t)
	q := newest(ctx, t)
	var links []link
	for _, d := range differences {
		links = append(links, d.link)
	}
	links = append(links, link{name: "unsummed",
		b: "guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off"})
	p := bootPair(ctx, t, l, Guest{QEMU: q, CPUs: 2}, Guest{QEMU: q}, links...)
	for n, d := range differences {
		t.Run(d.name, func(t *testing.T) {
			p.agreed(ctx, t, d, n)
			p.works(ctx, t, d.name)
			// The same once more, on new rings.
			p.rebind(ctx, t, p.a, macA(n))
			p.rebind(ctx, t, p.b, macB(n))
			p.up(ctx, t, d.link)
			p.agreed(ctx, t, d, n)
			p.works(ctx, t, d.name)
		})
	}
	t.Run("frames that the receiver lacks the feature for are counted", func(t *testing.T) { p.lacking(ctx, t) })
	p.healthy(ctx, t)
}

func (p *pair) rebind(ctx context.Context, t *testing.T, m *Machine, mac string) {
	t.Helper()
	if _, err := Ask[guestapi.NetInfo](ctx, m, guestapi.OpNetRebind, guestapi.NetName{MAC: mac}); err != nil {
		t.Fatal(err)
	}
}

// works shows that small and large frames pass both ways.
func (p *pair) works(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	p.pings(ctx, t, name, 5, 1400)
	x, err := p.a.TCP(ctx, p.b, p.sideB(name).v4, Load{Bytes: 2 << 20}, Load{Bytes: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("TCP: %.0f Mbit/s forth, %.0f back", x.Forth.MbitPerSecond(), x.Back.MbitPerSecond())
}

// agreed compares what the driver and the daemon agreed on with what each was
// told to offer and to take.
func (p *pair) agreed(ctx context.Context, t *testing.T, d difference, n int) {
	t.Helper()
	for _, end := range []struct {
		m           *Machine
		mac, port   string
		plus, minus []int
	}{
		{p.a, macA(n), portA(d.link), d.plusA, d.minusA},
		{p.b, macB(n), portB(d.link), d.plusB, d.minusB},
	} {
		info, err := Ask[guestapi.NetInfo](ctx, end.m, guestapi.OpNetInfo, guestapi.NetName{MAC: end.mac})
		if err != nil {
			t.Fatal(err)
		}
		ports, err := Show[PortState](ctx, p.d, "ports", end.port)
		if err != nil || len(ports) != 1 {
			t.Fatalf("port %s: %v, %v", end.port, ports, err)
		}
		want := (mask(usual) | mask(end.plus)) &^ mask(end.minus)
		daemon := uint64(ports[0].Features.Bits)
		if got := info.Features & mask(optional); got != want {
			t.Errorf("%s: the driver has agreed on %#x, not %#x", end.port, got, want)
		}
		if got := daemon & mask(optional); got != want {
			t.Errorf("%s: the daemon has agreed on %#x, not %#x (%v)", end.port, got, want, ports[0].Features.Names)
		}
	}
}

func mask(bits []int) (m uint64) {
	for _, b := range bits {
		m |= 1 << b
	}
	return m
}

// lacking has A leave the checksum of datagrams to a B that has not agreed to
// GUEST_CSUM. The daemon does not make checksums: it drops them, and says why.
func (p *pair) lacking(ctx context.Context, t *testing.T) {
	const name, count = "unsummed", 20
	lost := func() uint64 { return p.stats(ctx, t, name+"-b").Drops["receiver-lacks-guest-csum"] }
	if n := lost(); n > 0 {
		t.Fatalf("%d frames were dropped before", n)
	}
	if err := p.a.AwaitPing(ctx, p.sideB(name).v4); err != nil { // has its checksum from the start
		t.Fatal(err)
	}
	_, err := Ask[guestapi.UDPResult](ctx, p.a, guestapi.OpUDPSend, guestapi.UDPSend{
		Addr: p.sideB(name).v4 + ":9", Count: count, Size: 100, Interval: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for lost() < count {
		if ctx.Err() != nil {
			t.Fatalf("%d of %d datagrams were counted as dropped: %v", lost(), count, p.stats(ctx, t, name+"-b").Drops)
		}
	}
	_, err = Ask[guestapi.NetInfo](ctx, p.a, guestapi.OpNetOffload, guestapi.NetOffload{
		MAC: macA(p.number[name]), Set: guestapi.Offloads{"tx": false}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.a.UDP(ctx, p.b, p.sideB(name).v4, count, 100); err != nil {
		t.Errorf("with checksums of its own: %v", err)
	}
}
