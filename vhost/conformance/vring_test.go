package conformance

import (
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
)

// Rule 48 (vhost-user, SET_VRING_CALL): call and error files that come before features and memory are kept for the ring.
func TestCallAndErrorFilesMayComeFirst(t *testing.T) {
	f := connect(t, entropy())
	r := f.ringIn(nil, 0, 0)
	must(t, f.SetVringCall(0, r.call))
	must(t, f.SetVringErr(0, r.err))
	f.agree(options{})
	f.share()
	r.mem = f.mem
	must(t, f.SetVringNum(0, ringSize))
	must(t, f.SetVringAddr(r.addr()))
	must(t, f.SetVringKick(0, r.kick))
	must(t, f.SetVringEnable(0, true))
	r.works()
	f.signalled(r.call)
	r.offer(ringSize) // a head that does not exist
	r.ringKick()
	f.signalled(r.err)
}

// Rule 49★ (vhost-user, SET_VRING_ENABLE): a ring may be enabled before SET_FEATURES; it is acknowledged with 0 and remembered.
func TestEnableBeforeFeaturesIsRemembered(t *testing.T) {
	f := connect(t, entropy())
	p, err := f.GetProtocolFeatures()
	must(t, err)
	must(t, f.SetProtocolFeatures(p))
	f.acked(vhost.SetVringEnable, state(0, 1))
	f.agree(options{})
	f.share()
	r := f.ring(0)
	r.configure()
	must(t, f.SetVringKick(0, r.kick))
	r.works() // a ring of this device that is not enabled is paused
}

// Rule 50★ (QEMU 7.2 behaviour): enabling a ring that is never configured is accepted and starts nothing.
func TestEnableOfARingThatIsNeverConfiguredStartsNothing(t *testing.T) {
	dev := entropy()
	f := plug(t, dev, options{})
	r := f.ring(0)
	r.start()
	r.works()
	dev.said()
	f.acked(vhost.SetVringEnable, state(1, 1))
	r.works()
	if s := dev.said(); len(s) != 0 {
		t.Errorf("the device heard %q", s)
	}
	if i := f.session().Info().Rings[1]; i.Started || i.Broken != "" {
		t.Errorf("the ring: %+v", i)
	}
}

// Rule 51★ (vhost-user, "A vring state description"): an index that is no ring of the device is refused in every message, and the file that came with it is closed.
func TestIndexBeyondTheRingsIsRefused(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.start()
	before := openFiles()
	for _, i := range []uint32{2, 3, 255, 256, 1 << 16, 1<<32 - 1} {
		addr := r.addr()
		addr.Index = i
		f.nacked(vhost.SetVringAddr, payloadOf(addr))
		for _, request := range []vhost.Request{vhost.SetVringNum, vhost.SetVringBase, vhost.SetVringEnable} {
			f.nacked(request, state(i, 1))
		}
	}
	for _, i := range []int{2, 3, 255} { // the message has 8 bits for it
		for _, request := range []vhost.Request{vhost.SetVringKick, vhost.SetVringCall, vhost.SetVringErr} {
			f.nacked(request, file(i), r.call)
		}
	}
	eventually(t, "their files are closed", func() bool { return openFiles() == before })
	r.works()
	// A base cannot be refused in its reply, so the connection ends.
	f.send(vhost.GetVringBase, 0, state(2, 0))
	if f.closed() == nil {
		t.Error("the session does not say why it ended")
	}
}

// Rule 52 (virtio 1.2, 2.7): a split ring's size of 0, of more than the device's maximum, or not a power of two is refused, and the size before stands.
func TestRingSizeThatCannotBeIsRefused(t *testing.T) {
	f := plug(t, entropy(), options{}) // 256 at most
	r := f.ring(0)
	r.configure()
	for _, n := range []uint32{0, 3, 15, 17, 255, 257, 512, 32768, 65536, 1 << 31, 1<<32 - 1} {
		f.nacked(vhost.SetVringNum, state(0, n))
	}
	must(t, f.SetVringKick(0, r.kick))
	must(t, f.SetVringEnable(0, true))
	for range ringSize + 1 {
		r.works()
	}
}

// Rule 53 (vhost-user, SET_VRING_ADDR): the order of address, base and size makes no difference.
func TestAddressAndBaseComeInAnyOrder(t *testing.T) {
	for name, order := range map[string][]vhost.Request{
		"QEMU":             {vhost.SetVringNum, vhost.SetVringBase, vhost.SetVringAddr},
		"cloud-hypervisor": {vhost.SetVringNum, vhost.SetVringAddr, vhost.SetVringBase},
		"address first":    {vhost.SetVringAddr, vhost.SetVringBase, vhost.SetVringNum},
	} {
		t.Run(name, func(t *testing.T) {
			f := plug(t, entropy(), options{})
			r := f.ring(0)
			r.begin(1000)
			for _, request := range order {
				switch request {
				case vhost.SetVringNum:
					must(t, f.SetVringNum(0, ringSize))
				case vhost.SetVringBase:
					must(t, f.SetVringBase(0, 1000))
				default:
					must(t, f.SetVringAddr(r.addr()))
				}
			}
			must(t, f.SetVringKick(0, r.kick))
			must(t, f.SetVringEnable(0, true))
			r.works()
			if base := r.stop(); base != 1001 {
				t.Errorf("stopped at %d, want 1001", base)
			}
		})
	}
}

// Rule 54 (vhost-user, SET_VRING_ADDR): a ring of which any part does not lie wholly in one region is not served; its error file tells, and its siblings live.
func TestRingOutsideOfItsRegionIsNotServed(t *testing.T) {
	const end = memtable.UVA(4 * ringBytes)
	for name, move := range map[string]func(a *vhost.VringAddr, uva memtable.UVA){
		"descriptors end outside":    func(a *vhost.VringAddr, uva memtable.UVA) { a.Desc = uva + end - 15*16 },
		"available ring ends 2 late": func(a *vhost.VringAddr, uva memtable.UVA) { a.Avail = uva + end - 36 },
		"used ring ends 2 late":      func(a *vhost.VringAddr, uva memtable.UVA) { a.Used = uva + end - 132 },
		"nowhere":                    func(a *vhost.VringAddr, uva memtable.UVA) { a.Used = 0x1000 },
		"wraps around":               func(a *vhost.VringAddr, uva memtable.UVA) { a.Desc = ^memtable.UVA(15) },
		"guest address":              func(a *vhost.VringAddr, uva memtable.UVA) { a.Desc -= userShift },
	} {
		for _, touching := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				f := plug(t, entropy(), options{})
				if touching { // memory goes on behind the region, in another
					next := f.mem.MemRegion
					next.GPA, next.UVA = next.GPA+memtable.GPA(end), next.UVA+end
					next.Size = page
					must(t, f.AddMemReg(next, newMemory(t, next).fd))
				}
				sibling := f.ring(1)
				sibling.start()
				r := f.ring(0)
				r.configure()
				a := r.addr()
				move(&a, f.mem.UVA)
				must(t, f.SetVringAddr(a))
				must(t, f.SetVringEnable(0, true))
				f.nacked(vhost.SetVringKick, file(0), r.kick)
				f.signalled(r.err)
				r.post()
				sibling.works()
				if base := r.stop(); base != 0 || r.used() != 0 {
					t.Errorf("it was served: base %d, used %d", base, r.used())
				}
				r.startAt(0) // the driver lays it right
				r.returned()
			})
		}
	}
}

// Rule 55 (virtio 1.2, 2.7): descriptor table, available and used ring at addresses that are no multiples of 16, 2 and 4 are refused.
func TestMisalignedRingIsRefused(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.configure()
	for _, by := range []memtable.UVA{1, 2, 4, 8} {
		a := r.addr()
		a.Desc += by
		f.nacked(vhost.SetVringAddr, payloadOf(a))
	}
	for _, by := range []memtable.UVA{1, 2} {
		a := r.addr()
		a.Used += by
		f.nacked(vhost.SetVringAddr, payloadOf(a))
	}
	a := r.addr()
	a.Avail++
	f.nacked(vhost.SetVringAddr, payloadOf(a))
	must(t, f.SetVringKick(0, r.kick))
	must(t, f.SetVringEnable(0, true))
	r.works() // at the address before
}

// Rule 56★ (vhost-user, SET_VRING_ADDR): an address message for a running ring that changes its log flag only moves no index.
func TestLogFlagOfARunningRingMovesNoIndex(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.begin(7)
	r.start()
	for i := range 20 {
		r.lay() // under way while the message comes
		r.ringKick()
		a := r.addr()
		a.Flags = uint32(i % 2 * vhost.VringLog)
		must(t, f.SetVringAddr(a))
		r.returned()
	}
	if base := r.stop(); base != 27 {
		t.Errorf("stopped at %d, want 27", base)
	}
}
