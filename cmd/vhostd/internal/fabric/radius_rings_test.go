package fabric

import (
	"testing"

	"github.com/vhostd/vhostd/vhost/vhosttest"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// ringBreakers are what costs a ring. poke makes the device look at it again.
func ringBreakers() map[string]func(s *scene, r *vhosttest.Ring, poke func()) {
	corrupt := func(head uint16) func(*scene, *vhosttest.Ring, func()) {
		return func(_ *scene, r *vhosttest.Ring, poke func()) { r.Corrupt(head); poke() }
	}
	jump := func(n uint16) func(*scene, *vhosttest.Ring, func()) {
		return func(_ *scene, r *vhosttest.Ring, poke func()) { r.Jump(n); poke() }
	}
	return map[string]func(*scene, *vhosttest.Ring, func()){
		"head behind the table":     corrupt(256),
		"head at the end of all":    corrupt(0xffff),
		"index one too far":         jump(257),
		"index half round":          jump(0x8000),
		"index backwards":           jump(1<<16 - 1),
		"64 Ki bad chains in a row": abuse,
	}
}

// abuse gives the device nothing but loops, until it has had enough of them.
func abuse(s *scene, r *vhosttest.Ring, poke func()) {
	loop := vhosttest.Spare(0)
	r.Describe(loop, vhosttest.Desc{Addr: r.Buffer(0), Len: 1, Flags: vhosttest.DescNext, Next: loop})
	for back := 0; back < 1<<16; {
		for range 256 {
			r.Expose(loop)
		}
		r.Publish()
		before := back
		s.until("bad chains come back", func() bool {
			poke() // a sender does not go through all of them at a time
			for _, _, ok := r.Back(); ok; _, _, ok = r.Back() {
				back++
			}
			return back-before >= 256 || back >= 1<<16-virtio.BurstMax
		})
		if back >= 1<<16-virtio.BurstMax { // the last ones do not come back
			return
		}
	}
}

func TestABadRingCostsItselfUntilTheReset(t *testing.T) {
	s := stage(t, PortOptions{Pairs: 2})
	for name, breakIt := range ringBreakers() {
		for ring, side := range []string{"receive", "transmit"} {
			s.act(t, side+"/"+name, func(s *scene) { s.broken(ring, breakIt) })
		}
	}
	s.flow.end()
}

// broken breaks a ring of the first pair, and sees what that costs.
func (s *scene) broken(ring int, breakIt func(*scene, *vhosttest.Ring, func())) {
	g := s.enter(vhosttest.Options{Pairs: 2, Features: modern | vnet.FeatureMQ, Hole: ring == 0})
	s.carry(g, s.witness, vhosttest.Frame(address(witnessPort), address(culpritPort), 60, 0))
	g.Pairs[1].RX.Fill()
	bell := s.eventfd(0)
	if err := g.Conn.SetVringErr(ring, bell); err != nil {
		s.tb.Fatal(err)
	}
	r, poke := g.Pairs[0].TX, func() {}
	if r.Reap(); ring == 0 {
		r, poke = g.Pairs[0].RX, func() {
			for range 8 {
				s.witness.Send(vhosttest.Frame(address(culpritPort), address(witnessPort), 60, 0))
			}
		}
	}
	breakIt(s, r, poke)
	s.until("the error eventfd tells", func() bool { return signalled(bell) })
	for _, i := range s.session().Info().Rings {
		if broken := i.Broken != ""; broken != (i.Index == ring) {
			s.tb.Errorf("ring %d is told as %q", i.Index, i.Broken)
		}
	}
	s.siblings(g, ring)
	if err := g.Conn.ResetDevice(); err != nil {
		s.tb.Fatal(err)
	}
	g.Restart()
	s.until("the port runs", func() bool { return s.ports[culpritPort].conn.Load().receive(0) != nil })
	s.works(g)
}

// siblings fails unless the rings of g beside the broken one work.
func (s *scene) siblings(g *vhosttest.Guest, broken int) {
	s.tb.Helper()
	if broken == 0 {
		s.carry(g, s.witness, vhosttest.Frame(address(witnessPort), address(culpritPort), 61, 1))
	}
	frame := vhosttest.Frame(address(culpritPort), address(witnessPort), 62, 2)
	s.witness.Pairs[1].TX.Add(vnet.Header{}, frame)
	s.witness.Pairs[1].TX.Publish()
	rx := g.Pairs[1].RX
	buf := make([]byte, 2048)
	s.until("the second receive ring works", func() bool { _, n := rx.Next(buf); return n == len(frame) })
	before := s.ports[culpritPort].Stats().Queues[1].InFrames
	g.Pairs[1].TX.Add(vnet.Header{}, vhosttest.Frame(address(witnessPort), address(culpritPort), 63, 3))
	g.Pairs[1].TX.Publish()
	s.until("the second transmit ring works", func() bool { return s.ports[culpritPort].Stats().Queues[1].InFrames == before+1 })
}

func TestABadOffloadCostsItsFrame(t *testing.T) {
	s := stage(t, PortOptions{})
	csum := vnet.Header{Flags: vnet.NeedsCsum, CsumStart: 34, CsumOffset: 16}
	tso := vnet.Header{Flags: vnet.NeedsCsum, CsumStart: 34, CsumOffset: 16, GSOType: vnet.GSOTCPv4, GSOSize: 1448, HdrLen: 54}
	with := func(h vnet.Header, change func(*vnet.Header)) vnet.Header { change(&h); return h }
	for name, c := range map[string]struct {
		h    vnet.Header
		size int
		why  vnet.Verdict
	}{
		"checksum one byte behind the frame": {csum, 51, vnet.BadCsum},
		"checksum far behind the frame":      {with(csum, func(h *vnet.Header) { h.CsumStart, h.CsumOffset = 0xffff, 0xffff }), 1500, vnet.BadCsum},
		"checksum over the addresses":        {with(csum, func(h *vnet.Header) { h.CsumStart = 0 }), 1500, vnet.BadCsum},
		"segments of nothing":                {with(tso, func(h *vnet.Header) { h.GSOSize = 0 }), 3000, vnet.BadGSO},
		"headers longer than the frame":      {with(tso, func(h *vnet.Header) { h.HdrLen = 0xffff }), 3000, vnet.BadGSO},
		"segmentation without a checksum":    {with(tso, func(h *vnet.Header) { h.Flags = 0 }), 3000, vnet.BadGSO},
		"no kind of segmentation":            {with(tso, func(h *vnet.Header) { h.GSOType = 0x7f }), 3000, vnet.BadGSO},
		"segmentation that was not agreed":   {with(tso, func(h *vnet.Header) { h.GSOType = vnet.GSOTCPv6 }), 3000, vnet.NotNegotiated},
	} {
		s.act(t, name, func(s *scene) {
			g := s.enter(vhosttest.Options{Features: modern | vnet.FeatureCSUM | vnet.FeatureHostTSO4})
			s.works(g)
			before := s.ports[culpritPort].Stats().Drops[c.why.String()]
			g.Pairs[0].TX.Add(c.h, vhosttest.Frame(address(witnessPort), address(culpritPort), c.size, 0))
			g.Pairs[0].TX.Publish()
			s.dropped(culpritPort, Reason(c.why), before+1)
			s.works(g)
		})
	}
	s.act(t, "a frame of a GiB", func(s *scene) {
		g := s.enter(vhosttest.Options{Features: modern | virtioIndirect})
		s.works(g)
		before := s.ports[culpritPort].Stats().Drops[Giant.String()]
		tx := g.Pairs[0].TX
		tx.Reap()
		var list []vhosttest.Desc
		for i := range uint16(64) {
			list = append(list, vhosttest.Desc{Addr: uint64(g.Region.GPA), Len: 1 << 24, Flags: vhosttest.DescNext, Next: i + 1})
		}
		list[63].Flags = 0
		tx.Describe(vhosttest.Spare(0), vhosttest.Desc{Addr: tx.Table(list...), Len: 64 * 16, Flags: vhosttest.DescIndirect})
		tx.Expose(vhosttest.Spare(0))
		tx.Publish()
		s.dropped(culpritPort, Giant, before+1)
		s.until("its head comes back", func() bool { return tx.Used() > 0 })
		tx.Back()
		s.works(g)
	})
	s.flow.end()
}
