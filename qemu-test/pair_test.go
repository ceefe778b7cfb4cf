package qemutest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

// link is a NIC of each of two guests, and the switch between them.
type link struct {
	name     string
	pairs    int    // of queues
	a, b     string // properties of QEMU's devices
	forA     string // options of the daemon's ports
	forB     string
	listenB  bool // B's QEMU listens, and the daemon connects to it
	mtu      int
	offloads guestapi.Offloads // of both, where they are not the default
}

// pair is two guests with links between them, each link a group of its own.
type pair struct {
	d      *Daemon
	a, b   *Machine
	number map[string]int
}

func macA(n int) string { return fmt.Sprintf("52:54:00:00:%02x:0a", n) }
func macB(n int) string { return fmt.Sprintf("52:54:00:00:%02x:0b", n) }

// side is the end of a link that a subtest sends to.
type side struct{ v4, v6 string }

func (p *pair) sideA(name string) side { return p.side(name, 1) }
func (p *pair) sideB(name string) side { return p.side(name, 2) }

func (p *pair) side(name string, host int) side {
	n, ok := p.number[name]
	if !ok {
		panic("no link is named " + name)
	}
	return side{fmt.Sprintf("10.0.%d.%d", n, host), fmt.Sprintf("fd00:%x::%x", n, host)}
}

func portA(l link) string { return l.name + "-a" }
func portB(l link) string { return l.name + "-b" }

// bootPair starts a daemon and two guests like a and b, and sets all links up.
func bootPair(ctx context.Context, t *testing.T, l *Lab, a, b Guest, links ...link) *pair {
	t.Helper()
	p := &pair{number: make(map[string]int)}
	var ports []Port
	a.Name, b.Name = "a", "b"
	for n, k := range links {
		p.number[k.name] = n
		options := "group=" + k.name
		if k.pairs > 1 {
			options += fmt.Sprintf(",queues=%d", k.pairs)
		}
		forB := k.forB
		if k.listenB {
			forB = join("mode=client", forB)
		}
		ports = append(ports,
			Port{Name: portA(k), Options: join(options, k.forA)}, Port{Name: portB(k), Options: join(options, forB)})
		a.NICs = append(a.NICs, NIC{Socket: l.Socket(portA(k)), MAC: macA(n), Queues: k.pairs, Props: k.a})
		b.NICs = append(b.NICs, NIC{Socket: l.Socket(portB(k)), Listen: k.listenB, MAC: macB(n), Queues: k.pairs, Props: k.b})
	}
	var err error
	if p.d, err = l.Vhostd(ctx, "vhostd", ports...); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.a = boot(ctx, t, l, a) })
	wg.Go(func() { p.b = boot(ctx, t, l, b) })
	wg.Wait()
	if p.a == nil || p.b == nil {
		t.FailNow()
	}
	for _, k := range links {
		p.up(ctx, t, k)
	}
	return p
}

func join(options, more string) string { return strings.Trim(options+","+more, ",") }

// up gives both ends of a link their addresses.
func (p *pair) up(ctx context.Context, t *testing.T, k link) {
	t.Helper()
	p.upA(ctx, t, k)
	p.upB(ctx, t, k)
}

func (p *pair) upA(ctx context.Context, t *testing.T, k link) {
	t.Helper()
	configure(ctx, t, p.a, macA(p.number[k.name]), p.sideA(k.name), k)
}

func (p *pair) upB(ctx context.Context, t *testing.T, k link) {
	t.Helper()
	configure(ctx, t, p.b, macB(p.number[k.name]), p.sideB(k.name), k)
}

func configure(ctx context.Context, t *testing.T, m *Machine, mac string, s side, k link) {
	t.Helper()
	if _, err := m.LinkUp(ctx, mac, k.mtu, s.v4+"/24", s.v6+"/64"); err != nil {
		t.Fatal(err)
	}
	if k.offloads == nil {
		return
	}
	i, err := Ask[guestapi.NetInfo](ctx, m, guestapi.OpNetOffload, guestapi.NetOffload{MAC: mac, Set: k.offloads})
	if err != nil {
		t.Fatal(err)
	}
	for what, on := range k.offloads {
		if i.Offloads[what] != on {
			t.Fatalf("%s: %s of %s is %t, not %t", m.Name, what, k.name, i.Offloads[what], on)
		}
	}
}

// pings pings both ways over both protocols.
func (p *pair) pings(ctx context.Context, t *testing.T, name string, count, size int) {
	t.Helper()
	a, b := p.sideA(name), p.sideB(name)
	for _, way := range []struct {
		from *Machine
		to   string
	}{{p.a, b.v4}, {p.a, b.v6}, {p.b, a.v4}, {p.b, a.v6}} {
		// Address resolution is not what is tested.
		if err := way.from.AwaitPing(ctx, way.to); err != nil {
			t.Fatal(err)
		}
		r, err := way.from.Ping(ctx, way.to, count, size)
		if err != nil {
			t.Error(err)
			continue
		}
		t.Logf("%s pings %s with %d bytes: %d of %d, %d/%d/%d µs", way.from.Name, way.to, size, r.Received, r.Sent, r.Min, r.Avg, r.Max)
	}
}

// streams sends over TCP, one way, then the other, then both at once.
func (p *pair) streams(ctx context.Context, t *testing.T, addr string, size int64) {
	t.Helper()
	for _, load := range [][2]Load{{{Bytes: size}, {}}, {{}, {Bytes: size}}, {{Bytes: size}, {Bytes: size}}} {
		x, err := p.a.TCP(ctx, p.b, addr, load[0], load[1])
		if err != nil {
			t.Error(err)
			continue
		}
		t.Logf("TCP to %s: %d bytes forth, %.0f Mbit/s; %d back, %.0f Mbit/s", addr,
			x.Forth.Received.Bytes, x.Forth.MbitPerSecond(), x.Back.Received.Bytes, x.Back.MbitPerSecond())
	}
}

// healthy checks that the daemon saw nothing bad in the rings of links that
// follow the rules.
func (p *pair) healthy(ctx context.Context, t *testing.T) {
	t.Helper()
	all, err := Show[PortQueues](ctx, p.d, "queues")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range all {
		if q.State != "running" {
			t.Errorf("port %s is %s", q.Port, q.State)
		}
		for _, r := range q.Rings {
			if r.Broken != "" || len(r.BadChains) > 0 {
				t.Errorf("port %s, ring %d: broken %q, bad chains %v", q.Port, r.Index, r.Broken, r.BadChains)
			}
		}
	}
}

// stats are a port's counts.
func (p *pair) stats(ctx context.Context, t *testing.T, port string) PortStats {
	t.Helper()
	s, err := Show[PortStats](ctx, p.d, "stats", port)
	if err != nil || len(s) != 1 {
		t.Fatalf("stats of %s: %v, %v", port, s, err)
	}
	return s[0]
}
