package qemutest

import (
	"context"
	"testing"
	"time"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

// TestEndsComeAndGo restarts each end of the links while traffic goes on.
// On one link the daemon listens for both guests; on the other it connects to B.
func TestEndsComeAndGo(t *testing.T) {
	l, ctx := newLab(t)
	q := newest(ctx, t)
	links := []link{{name: "listens"}, {name: "dials", listenB: true}}
	p := bootPair(ctx, t, l, Guest{QEMU: q}, Guest{QEMU: q}, links...)

	restarts := []struct {
		name string
		do   func(context.Context) error
	}{
		{"first reboot", p.b.Reboot}, {"second reboot", p.b.Reboot}, {"third reboot", p.b.Reboot},
		{"reset", p.b.Reset},
	}
	for _, r := range restarts {
		t.Run(r.name+" of a guest while the other pings it", func(t *testing.T) {
			start := time.Now()
			res := p.whilePinging(ctx, t, "listens", func() {
				if err := r.do(ctx); err != nil {
					t.Fatal(err)
				}
				for _, k := range links {
					p.upB(ctx, t, k)
					p.pings(ctx, t, k.name, 3, 1000)
				}
			})
			t.Logf("%.1f s; %d of %d answered, silent for at most %.1f s", time.Since(start).Seconds(),
				res.Received, res.Sent, float64(res.Gap)/1e6)
		})
	}
	t.Run("the daemon is killed in the middle of a stream", func(t *testing.T) {
		p.restartDaemon(ctx, t, links, p.d.Kill)
	})
	t.Run("the daemon is stopped in the middle of a stream", func(t *testing.T) {
		p.restartDaemon(ctx, t, links, func() {
			if err := p.d.Stop(); err != nil {
				t.Errorf("SIGTERM: %v", err)
			}
		})
	})
	t.Run("the driver is bound anew while the other pings", func(t *testing.T) {
		p.whilePinging(ctx, t, "listens", func() {
			for range 5 {
				if _, err := Ask[guestapi.NetInfo](ctx, p.b, guestapi.OpNetRebind, guestapi.NetName{MAC: macB(0)}); err != nil {
					t.Fatal(err)
				}
			}
			p.upB(ctx, t, links[0])
			p.pings(ctx, t, "listens", 3, 1000)
		})
	})
	p.healthy(ctx, t)
}

// whilePinging does something while A pings B on a link. No answer may be
// damaged or come twice, and after the end A is answered again.
func (p *pair) whilePinging(ctx context.Context, t *testing.T, name string, do func()) guestapi.PingResult {
	t.Helper()
	h, err := Ask[guestapi.Handle](ctx, p.a, guestapi.OpPingStart, guestapi.Ping{Addr: p.sideB(name).v4, Interval: 20_000})
	if err != nil {
		t.Fatal(err)
	}
	do()
	res, err := Ask[guestapi.PingResult](ctx, p.a, guestapi.OpPingStop, h)
	if err != nil {
		t.Fatal(err)
	}
	if res.Received == 0 || res.Damaged > 0 || res.Duplicates > 0 {
		t.Errorf("of %d pings %d were answered, %d damaged, %d twice", res.Sent, res.Received, res.Damaged, res.Duplicates)
	}
	return res
}

// streamTime is how long streams run that are interrupted: a QEMU that looks
// for the daemon once a second must find it within.
const streamTime = 4 * time.Second

// restartDaemon ends the daemon while a stream runs on each link, and starts it
// again: every byte arrives all the same, in its place.
func (p *pair) restartDaemon(ctx context.Context, t *testing.T, links []link, end func()) {
	t.Helper()
	type result struct {
		name string
		x    *Transfer
		err  error
	}
	done := make(chan result, len(links))
	before := make(map[string]uint64)
	for _, k := range links {
		before[k.name] = p.stats(ctx, t, portA(k)).InBytes
		go func() {
			x, err := p.a.TCP(ctx, p.b, p.sideB(k.name).v4, Load{Time: streamTime}, Load{Time: streamTime})
			done <- result{k.name, x, err}
		}()
	}
	for _, k := range links {
		for p.stats(ctx, t, portA(k)).InBytes < before[k.name]+1<<20 { // it runs
			if ctx.Err() != nil {
				t.Fatal(context.Cause(ctx))
			}
		}
	}
	end()
	if err := p.d.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	for range links {
		r := <-done
		if r.err != nil {
			t.Errorf("%s: %v", r.name, r.err)
			continue
		}
		t.Logf("%s: %d bytes forth, %d back", r.name, r.x.Forth.Received.Bytes, r.x.Back.Received.Bytes)
	}
	for _, k := range links {
		p.pings(ctx, t, k.name, 5, 1000)
		if n := p.stats(ctx, t, portA(k)).InFrames; n == 0 {
			t.Errorf("%s: the new daemon has carried nothing", k.name)
		}
	}
}
