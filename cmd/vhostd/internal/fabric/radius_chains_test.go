package fabric

import (
	"fmt"
	"testing"

	"github.com/vhostd/vhostd/vhost/vhosttest"
	"github.com/vhostd/vhostd/virtio"
)

// badChain lays a chain under a valid head.
type badChain struct {
	name, why string
	lay       func(c chainRig) (head uint16)
	features  virtio.Features // of the driver; 0: indirect descriptors are negotiated
}

// chainRig is where a chain is laid.
type chainRig struct {
	r          *vhosttest.Ring
	begin, end uint64 // of the guest's memory
	good       uint16 // flags of a descriptor of the right direction
}

// list lays descriptors one after the other, linked as their flags say; Next is
// relative to the list.
func (c chainRig) list(list ...vhosttest.Desc) (head uint16) {
	for i, d := range list {
		if d.Next < uint16(len(list)) {
			d.Next = vhosttest.Spare(int(d.Next))
		}
		c.r.Describe(vhosttest.Spare(i), d)
	}
	return vhosttest.Spare(0)
}

// one is a descriptor with a buffer of n bytes.
func (c chainRig) one(n uint32, flags, next uint16) vhosttest.Desc {
	return vhosttest.Desc{Addr: c.r.Buffer(0), Len: n, Flags: c.good | flags, Next: next}
}

// at is a chain of n bytes at an address.
func at(addr func(c chainRig) uint64, n uint32) func(chainRig) uint16 {
	return func(c chainRig) uint16 { return c.list(vhosttest.Desc{Addr: addr(c), Len: n, Flags: c.good}) }
}

// tableOf is an indirect table, and a descriptor that says it has n bytes.
func tableOf(n uint32, flags uint16, list func(c chainRig) []vhosttest.Desc) func(chainRig) uint16 {
	return func(c chainRig) uint16 {
		return c.list(vhosttest.Desc{Addr: c.r.Table(list(c)...), Len: n, Flags: vhosttest.DescIndirect | flags})
	}
}

func badChains() []badChain {
	const next, indirect, write = vhosttest.DescNext, vhosttest.DescIndirect, vhosttest.DescWrite
	plain := func(c chainRig) []vhosttest.Desc { return []vhosttest.Desc{c.one(64, 0, 0)} }
	list := []badChain{
		{"loop of one", "chain longer than the ring", func(c chainRig) uint16 { return c.list(c.one(64, next, 0)) }, 0},
		{"loop of two", "chain longer than the ring", func(c chainRig) uint16 { return c.list(c.one(64, next, 1), c.one(64, next, 0)) }, 0},
		{"next behind the table", "next beyond the table", func(c chainRig) uint16 { return c.list(c.one(64, next, 256)) }, 0},
		{"next at the end of all", "next beyond the table", func(c chainRig) uint16 { return c.list(c.one(64, next, 0xffff)) }, 0},
		{"indirect in indirect", "indirect inside indirect", tableOf(16, 0, func(c chainRig) []vhosttest.Desc {
			return []vhosttest.Desc{{Addr: c.r.Buffer(0), Len: 16, Flags: indirect}}
		}), 0},
		{"indirect and next", "indirect and next in one descriptor", tableOf(16, next, plain), 0},
		{"indirect that was not negotiated", "indirect was not negotiated", tableOf(16, 0, plain), modern},
		{"indirect table that loops", "chain longer than the ring", tableOf(32, 0, func(c chainRig) []vhosttest.Desc {
			return []vhosttest.Desc{c.one(64, next, 1), c.one(64, next, 0)}
		}), 0},
		{"next behind the indirect table", "next beyond the table", tableOf(32, 0, func(c chainRig) []vhosttest.Desc {
			return []vhosttest.Desc{c.one(64, next, 2), c.one(64, 0, 0)}
		}), 0},
		{"indirect table behind the memory", "address outside guest memory", func(c chainRig) uint16 {
			return c.list(vhosttest.Desc{Addr: c.end - 8, Len: 16, Flags: indirect})
		}, 0},
		{"wrong direction", "descriptor of the wrong direction", func(c chainRig) uint16 {
			d := c.one(64, 0, 0)
			d.Flags ^= write
			return c.list(d)
		}, 0},
		{"wrong direction behind a good one", "descriptor of the wrong direction", func(c chainRig) uint16 {
			d := c.one(64, 0, 0)
			d.Flags ^= write
			return c.list(c.one(64, next, 1), d)
		}, 0},
		{"no byte", "chain without a byte", func(c chainRig) uint16 { return c.list(c.one(0, next, 1), c.one(0, 0, 0)) }, 0},
		{"more than 4 GiB", "chain longer than 4 GiB", tableOf(16*512, 0, func(c chainRig) (list []vhosttest.Desc) {
			for i := range uint16(512) {
				list = append(list, vhosttest.Desc{Addr: c.begin, Len: 1 << 24, Flags: c.good | next, Next: i + 1})
			}
			return list
		}), 0},
	}
	for _, n := range []uint32{0, 15, 17, 16 * 32769, 1<<32 - 16} {
		list = append(list, badChain{fmt.Sprintf("indirect table of %d bytes", n), "indirect table of bad length", tableOf(n, 0, plain), 0})
	}
	for name, lay := range map[string]func(chainRig) uint16{
		"address 0":                   at(func(chainRig) uint64 { return 0 }, 64),
		"a byte before the memory":    at(func(c chainRig) uint64 { return c.begin - 1 }, 64),
		"a byte too long":             at(func(c chainRig) uint64 { return c.end - 63 }, 64),
		"behind the memory":           at(func(c chainRig) uint64 { return c.end }, 1),
		"an end that wraps":           at(func(chainRig) uint64 { return 1<<64 - 16 }, 64),
		"all of 4 GiB":                at(func(c chainRig) uint64 { return c.begin }, 1<<32-1),
		"the front-end's own address": at(func(chainRig) uint64 { return uint64(own.UVA) }, 64),
	} {
		list = append(list, badChain{name, "address outside guest memory", lay, 0})
	}
	return list
}

// place lays the chain in ring r of g and makes it available.
func (b badChain) place(g *vhosttest.Guest, r *vhosttest.Ring, good uint16) (head uint16) {
	begin := uint64(g.Region.GPA)
	head = b.lay(chainRig{r, begin, begin + g.Region.Size, good})
	r.Expose(head)
	return head
}

func (b badChain) options(o vhosttest.Options) vhosttest.Options {
	if o.Features = b.features; o.Features == 0 {
		o.Features = modern | virtioIndirect
	}
	return o
}

// counted waits until the ring counted one chain for the reason, and nothing else.
func (s *scene) counted(ring int, why string) {
	s.tb.Helper()
	s.until("the chain is counted", func() bool { return s.session().Info().Rings[ring].Stats.BadChains[why] == 1 })
	if all := s.session().Info().Rings[ring].Stats.BadChains; len(all) != 1 {
		s.tb.Errorf("counted: %v", all)
	}
}

func TestABadTransmitChainCostsItself(t *testing.T) {
	s := stage(t, PortOptions{})
	for _, b := range badChains() {
		s.act(t, b.name, func(s *scene) {
			g := s.enter(b.options(vhosttest.Options{}))
			s.works(g)
			tx := g.Pairs[0].TX
			tx.Reap()
			head := b.place(g, tx, 0)
			tx.Publish()
			s.until("the head comes back", func() bool { return tx.Used() > 0 })
			if got, n, _ := tx.Back(); got != uint32(head) || n != 0 {
				s.tb.Errorf("head %d came back as %d with %d bytes", head, got, n)
			}
			s.counted(1, b.why)
			s.works(g)
		})
	}
	s.flow.end()
}

func TestABadReceiveChainCostsItself(t *testing.T) {
	s := stage(t, PortOptions{})
	for _, b := range badChains() {
		s.act(t, b.name, func(s *scene) {
			g := s.enter(b.options(vhosttest.Options{Hole: true}))
			s.carry(g, s.witness, vhosttest.Frame(address(witnessPort), address(culpritPort), 60, 0))
			rx := g.Pairs[0].RX
			head := b.place(g, rx, vhosttest.DescWrite)
			rx.Fill() // and good ones behind it
			frame := vhosttest.Frame(address(culpritPort), address(witnessPort), 800, 7)
			s.witness.Send(frame)
			s.until("the head comes back", func() bool { return rx.Used() > 0 })
			if got, n, _ := rx.Back(); got != uint32(head) || n != 0 {
				s.tb.Errorf("head %d came back as %d with %d bytes", head, got, n)
			}
			if got := g.Recv(vhosttest.Timeout); string(got) != string(frame) {
				s.tb.Errorf("the frame did not go to the good buffer behind: %d bytes", len(got))
			}
			s.counted(0, b.why)
			s.works(g)
		})
	}
	s.flow.end()
}
