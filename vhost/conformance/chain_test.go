package conformance

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// badChain is a chain under a valid head, 0, that no device can follow. It is
// laid into descriptors from 0 on; a table may be laid from page 4 on.
type badChain struct {
	name, reason string
	lay          func(r *ring)
}

// table lays an indirect table at page 4 and gives its guest address.
func (r *ring) table(list ...[16]byte) uint64 {
	for i, d := range list {
		copy(r.bytes(4*page+16*i), d[:])
	}
	return r.gpa(4 * page)
}

// entry is a descriptor of a table.
func entry(addr uint64, n uint32, flags, next uint16) (d [16]byte) {
	putDesc(d[:], addr, n, flags, next)
	return d
}

// badChains costs each itself only (virtio 1.2, 2.7.5).
func badChains() []badChain {
	const on = flagWrite | flagNext
	buffer := func(r *ring) uint64 { return r.gpa(dataAt) }
	indirect := func(name, reason string, n uint32, list func(r *ring) [][16]byte) badChain {
		return badChain{name, reason, func(r *ring) {
			r.desc(0, r.table(list(r)...), n, flagIndirect, 0)
		}}
	}
	one := func(r *ring) [][16]byte { return [][16]byte{entry(buffer(r), 8, flagWrite, 0)} }
	return []badChain{
		{"a loop of one", "chain longer than the ring", func(r *ring) { r.desc(0, buffer(r), 8, on, 0) }},
		{"a loop of all", "chain longer than the ring", func(r *ring) {
			for i := range uint16(ringSize) {
				r.desc(i, buffer(r), 8, on, (i+1)%ringSize)
			}
		}},
		{"next beyond the table", "next beyond the table", func(r *ring) { r.desc(0, buffer(r), 8, on, ringSize) }},
		{"a hole", "address outside guest memory", func(r *ring) { r.desc(0, 0x1000, 8, flagWrite, 0) }},
		{"good, then a hole", "address outside guest memory", func(r *ring) {
			r.desc(0, buffer(r), 8, on, 1)
			r.desc(1, 0x1000, 8, flagWrite, 0)
		}},
		{"around the end of addresses", "address outside guest memory", func(r *ring) { r.desc(0, ^uint64(7), 16, flagWrite, 0) }},
		{"indirect and next", "indirect and next in one descriptor", func(r *ring) {
			r.desc(0, r.table(one(r)...), 16, flagIndirect|flagNext, 1)
		}},
		indirect("a table of length 0", "indirect table of bad length", 0, one),
		indirect("half a descriptor", "indirect table of bad length", 8, one),
		indirect("one and a half", "indirect table of bad length", 24, one),
		indirect("nested", "indirect inside indirect", 16, func(r *ring) [][16]byte {
			return [][16]byte{entry(r.gpa(4*page), 16, flagIndirect, 0)}
		}),
		indirect("a loop in a table", "chain longer than the ring", 32, func(r *ring) [][16]byte {
			return [][16]byte{entry(buffer(r), 1, on, 1), entry(buffer(r), 1, on, 0)}
		}),
		indirect("a table beyond all bounds", "chain longer than the ring", 16*1200, func(r *ring) (list [][16]byte) {
			for i := range uint16(1200) {
				list = append(list, entry(buffer(r), 1, on, i+1))
			}
			return list
		}),
		indirect("a table's next beyond it", "next beyond the table", 16, func(r *ring) [][16]byte {
			return [][16]byte{entry(buffer(r), 8, on, 1)}
		}),
	}
}

// Rule 117★ (virtio 1.2, 2.7.5): a head that does not exist or ring memory out of reach breaks its ring, and its error file tells; a chain that cannot be followed comes back with length 0 and is counted, and very many in a row break the ring. Nothing else suffers, and a restart heals.
func TestBadChainCostsItselfAndBadHeadItsRing(t *testing.T) {
	for _, bad := range badChains() {
		t.Run(bad.name, func(t *testing.T) { costsItself(t, bad) })
	}
	for _, head := range []uint16{ringSize, ringSize + 1, 0x8000, 0xffff} {
		t.Run(fmt.Sprintf("head %d", head), func(t *testing.T) {
			breaks(t, func(r *ring) { r.offer(head) })
		})
	}
	t.Run("many in a row", badChainsFlood)
	t.Run("ring memory out of reach", ringMemoryGoes)
}

// costsItself plays a bad chain between good ones.
func costsItself(t *testing.T, bad badChain) {
	f := plug(t, entropy(), options{features: virtio.FeatureIndirect})
	s := f.session()
	r := f.ring(0)
	r.start()
	for n := range uint64(3) {
		r.works()
		bad.lay(r)
		before := bytes.Clone(r.bytes(dataAt)[:page])
		r.offer(0)
		r.ringKick()
		r.returned()
		if id, size := r.elem(r.avail - 1); id != 0 || size != 0 {
			t.Fatalf("head %d came back with length %d", id, size)
		}
		if !bytes.Equal(before, r.bytes(dataAt)[:page]) {
			t.Error("a buffer of the bad chain was written")
		}
		if got := r.info(s).Stats.BadChains; len(got) != 1 || got[bad.reason] != n+1 {
			t.Errorf("bad chains: %v, want %d of %q", got, n+1, bad.reason)
		}
	}
	r.works()
	if takeSignal(r.err) {
		t.Error("the error file was signalled")
	}
}

// breaks fails unless what do does to a ring breaks it, costs no other ring
// anything, and is healed when the ring is stopped and started.
func breaks(t *testing.T, do func(r *ring)) {
	t.Helper()
	f := plug(t, entropy(), options{})
	s := f.session()
	r, sibling := f.ring(0), f.ring(1)
	r.start()
	sibling.start()
	r.works()
	do(r)
	r.ringKick()
	f.signalled(r.err)
	sibling.works()
	used := r.used()
	r.post()
	if r.info(s).Broken == "" {
		t.Error("nothing says why the ring is broken")
	}
	must(t, f.SetVringEnable(0, false))
	must(t, f.SetVringEnable(0, true))
	sibling.works()
	base := r.stop()
	if base != used || r.used() != used {
		t.Errorf("base %d, %d used, %d when it broke", base, r.used(), used)
	}
	r.setAvail(base)
	r.start()
	r.works()
	if b := r.info(s).Broken; b != "" || takeSignal(r.err) {
		t.Errorf("it is still broken: %q", b)
	}
	sibling.works()
}

// badChainsFlood has nothing but bad chains in a ring of 256, which is as large
// as a page for each part allows, until it breaks.
func badChainsFlood(t *testing.T) {
	const size = 256
	f := plug(t, entropy(), options{})
	r, sibling := f.ring(0), f.ring(1)
	sibling.start()
	r.configure()
	must(t, f.SetVringNum(0, size))
	must(t, f.SetVringKick(0, r.kick))
	must(t, f.SetVringEnable(0, true))
	r.desc(0, 0x1000, 8, flagWrite, 0) // every entry of the available ring names it
	for broken := false; !broken; {
		if r.avail%(64*size) == 0 {
			sibling.works()
		}
		r.setAvail(r.avail + size)
		r.ringKick()
		eventually(t, "they come back, or the ring breaks", func() bool {
			broken = broken || takeSignal(r.err)
			return broken || r.used() == r.avail
		})
	}
	if taken := r.info(f.session()).Stats.Chains; taken < 1000 || taken > 1<<20 {
		t.Errorf("it took %d bad chains", taken)
	}
	sibling.works()
	r.stop()
	r.begin(0)
	r.start()
	r.works()
	sibling.works()
}

// ringMemoryGoes takes the memory of a running ring away.
func ringMemoryGoes(t *testing.T) {
	f := plug(t, entropy(), options{})
	own := newMemory(t, vhost.MemRegion{GPA: 0x5000_0000, UVA: 0x5000_0000 + userShift, Size: ringBytes})
	must(t, f.AddMemReg(own.MemRegion, own.fd))
	r, sibling := f.ringIn(own, 0, 0), f.ring(1)
	r.start()
	sibling.start()
	r.works()
	must(t, f.RemMemReg(own.MemRegion))
	f.signalled(r.err)
	r.post()
	sibling.works()
	if base := r.stop(); base != 1 || r.used() != 1 {
		t.Fatalf("base %d, %d used: it was served without its memory", base, r.used())
	}
	must(t, f.AddMemReg(own.MemRegion, own.fd))
	r.startAt(1)
	r.returned()
	r.works()
	sibling.works()
}

// Rule 118 (virtio 1.2, 2.7.6): an available index further than the ring is long breaks the ring, which no other ring feels and a restart heals.
func TestAvailableIndexThatJumpsBreaksTheRing(t *testing.T) {
	for _, by := range []uint16{ringSize + 1, 1 << 15, 0xffff} { // the last goes back by one
		t.Run(fmt.Sprint(by), func(t *testing.T) {
			breaks(t, func(r *ring) { r.setAvail(r.avail + by) })
		})
	}
	t.Run("as long as the ring is allowed", func(t *testing.T) {
		f := plug(t, entropy(), options{})
		r := f.ring(0)
		r.startAt(0)
		must(t, f.SetVringEnable(0, false))
		for range ringSize {
			r.lay()
		}
		r.ringKick()
		must(t, f.SetVringEnable(0, true))
		r.returned()
	})
}
