package fabric

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/vhost/vhosttest"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// Rule 71★ (vhost-user, GET_VRING_BASE): receive buffers that wait for frames are not consumed by a stop: the base is the first one that holds no frame, and the ring goes on there.
func TestIdleReceiveBuffersAreNotConsumedByAStop(t *testing.T) {
	for name, o := range map[string]vhosttest.Options{
		"one buffer a frame": {}, "three": {Features: modern | vnet.FeatureMrgRxbuf, Buffer: 256},
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, 2, PortOptions{})
			a, b := h.plug(0, vhosttest.Options{}), h.plug(1, o)
			frame := vhosttest.Frame(broadcast, address(0), 600, 1)
			buffers := virtio.Position(1)
			if o.Buffer != 0 {
				buffers = 3 // 612 bytes
			}
			for stops := range virtio.Position(3) {
				for range 5 {
					a.Send(frame)
					if got := b.Recv(vhosttest.Timeout); !bytes.Equal(got, frame) {
						t.Fatalf("%d bytes arrived", len(got))
					}
				}
				base, err := b.Conn.GetVringBase(0)
				if err != nil || base != (stops+1)*5*buffers {
					t.Fatalf("base %d, %v; want %d", base, err, (stops+1)*5*buffers)
				}
				h.resume(b, base)
			}
		})
	}
}

// resume starts the first receive ring of the guest at port 1 again.
func (h *hall) resume(g *vhosttest.Guest, base virtio.Position) {
	h.tb.Helper()
	for what, err := range map[string]error{"base": g.Conn.SetVringBase(0, base), "kick": g.Conn.SetVringKick(0, -1)} {
		if err != nil {
			h.tb.Fatalf("%s: %v", what, err)
		}
	}
	h.until("port runs", func() bool { return h.ports[1].conn.Load().receive(0) != nil })
}

// Rule 79 (vhost-user, "Ring states"): a transmit ring that is started and not enabled is taken from and its frames are dropped, each descriptor given back; a receive ring in that state gets nothing.
func TestDisabledNetworkRings(t *testing.T) {
	h := open(t, 2, PortOptions{})
	a, b := h.plug(0, vhosttest.Options{}), h.plug(1, vhosttest.Options{})
	h.greet(a, b)
	enable := func(g *vhosttest.Guest, ring int, on bool) {
		t.Helper()
		if err := g.Conn.SetVringEnable(ring, on); err != nil {
			t.Fatal(err)
		}
	}
	frame := vhosttest.Frame(address(1), address(0), 60, 1)
	enable(a, 1, false)
	a.Pairs[0].TX.Reap()
	for range 300 { // more than the ring holds: they must come back
		a.Send(frame)
	}
	h.dropped(0, Disabled, 300)
	enable(a, 1, true)

	enable(b, 0, false)
	for range 50 {
		a.Send(frame)
	}
	h.dropped(1, PortDown, 50)
	if n := b.Pairs[0].RX.Used(); n != 0 {
		t.Errorf("%d buffers of a ring that is not enabled were used", n)
	}
	enable(b, 0, true)
	last := vhosttest.Frame(address(1), address(0), 60, 2)
	a.Send(last)
	if got := b.Recv(vhosttest.Timeout); !bytes.Equal(got, last) {
		t.Errorf("the first frame after all that: % x", got)
	}
}

// Rule 88★ (vhost-user, "Migration"): with LOG_ALL every page of a receiver that a frame or its virtio-net header was written to is marked, over merged buffers too.
func TestEveryPageOfAReceivedFrameIsMarked(t *testing.T) {
	h := open(t, 2, PortOptions{})
	a := h.plug(0, vhosttest.Options{})
	b := h.bare(1, vhosttest.Options{Features: modern | virtio.FeatureLogAll | vnet.FeatureMrgRxbuf, Buffer: 8192})
	const logBytes = 9 * 4096
	fd, err := unix.MemfdCreate("log", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, logBytes); err != nil {
		t.Fatal(err)
	}
	if err := b.Conn.SetLogBase(vhost.LogBase{Size: logBytes}, fd); err != nil {
		t.Fatal(err)
	}
	if err := b.Conn.SetVringAddr(b.Pairs[0].RX.Logged()); err != nil {
		t.Fatal(err)
	}
	for i := range uint16(8) {
		b.post(shape{}, i, 5, 7, 100, 900+700*int(i))
	}
	before := bytes.Clone(b.mem)
	for _, size := range []int{60, 900, 5000, 1514} {
		a.Send(vhosttest.Frame(broadcast, address(0), size, 1))
	}
	h.until("all frames are in", func() bool { return h.ports[1].Stats().Queues[0].OutFrames == 4 })
	if _, err := b.Conn.GetVringBase(0); err != nil {
		t.Fatal(err)
	}
	log := make([]byte, logBytes)
	if _, err := unix.Pread(fd, log, 0); err != nil {
		t.Fatal(err)
	}
	written := 0
	for at := 0; at < len(before); at += 4096 {
		if bytes.Equal(before[at:at+4096], b.mem[at:at+4096]) {
			continue
		}
		written++
		if page := (uint64(b.Region.GPA) + uint64(at)) / 4096; log[page/8]>>(page%8)&1 == 0 {
			t.Errorf("page %#x was written and is not marked", page)
		}
	}
	if written < 6 {
		t.Errorf("%d pages were written", written)
	}
}

// Rule 96 (vhost-user, SEND_RARP): the guest's address is announced on the host's side by a RARP broadcast, each time it is asked for, and not to the guest itself.
func TestRARPIsSentForAMigratedGuest(t *testing.T) {
	h := open(t, 3, PortOptions{})
	guests := []*vhosttest.Guest{h.plug(0, vhosttest.Options{}), h.plug(1, vhosttest.Options{}), h.plug(2, vhosttest.Options{})}
	mac := [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	for range 5 {
		if err := guests[0].Conn.SendRARP(mac); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range guests[1:] {
		for range 5 {
			got := g.Recv(vhosttest.Timeout)
			want := slices.Concat(broadcast[:], mac[:], []byte{0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3}, mac[:], make([]byte, 4), mac[:])
			if len(got) != 60 || !bytes.Equal(got[:len(want)], want) {
				t.Fatalf("no RARP broadcast of its address: % x", got)
			}
		}
	}
	if guests[0].Recv(quiet) != nil {
		t.Error("the guest was told about itself")
	}
}

// Rule 119★ (virtio 1.2, 2.7.5): a frame goes where its header, read once, says, and with that header: what the driver changes meanwhile in either header is not delivered.
func TestFrameIsDeliveredAsItWasDecidedOn(t *testing.T) {
	const bursts, burst = 50, 64
	h := open(t, 3, PortOptions{})
	offload := vhosttest.Options{Features: modern | vnet.FeatureCSUM | vnet.FeatureGuestCSUM}
	a, b, c := h.bare(0, offload), h.plug(1, offload), h.plug(2, offload)
	b.Send(vhosttest.Frame(broadcast, address(1), 60, 0))
	c.Send(vhosttest.Frame(broadcast, address(2), 60, 0))
	if b.Recv(vhosttest.Timeout) == nil || c.Recv(vhosttest.Timeout) == nil {
		t.Fatal("the receivers do not hear each other")
	}
	tx := a.Pairs[0].TX
	addr := tx.Buffer(0)
	raw := a.at(addr, 12+60)
	copy(raw[12:], vhosttest.Frame(address(1), address(0), 60, 0))
	raw[0] = vnet.NeedsCsum
	tx.Describe(0, vhosttest.Desc{Addr: addr, Len: uint32(len(raw))})
	var flips sync.WaitGroup
	var stop atomic.Bool
	flips.Go(func() {
		for i := 0; !stop.Load(); i++ {
			raw[12+5] = address(1 + i&1)[5] // the destination
			raw[6] = byte(20 + i>>1&1*200)  // where the checksum begins: in the frame, or beyond it
		}
	})
	t.Cleanup(func() { stop.Store(true); flips.Wait() }) // before the memory goes
	got := 0
	buf := make([]byte, 4096)
	for range bursts {
		for range burst { // the same descriptor: all are decided on while it changes
			tx.Expose(0)
		}
		tx.Publish()
		for range burst {
			a.back(tx)
		}
		for _, g := range []struct {
			*vhosttest.Guest
			mac [6]byte
		}{{b, address(1)}, {c, address(2)}} {
			for {
				hdr, n := g.Pairs[0].RX.Next(buf)
				if n == 0 {
					break
				}
				got++
				if [6]byte(buf[:6]) != g.mac || hdr.CsumStart != 20 {
					t.Fatalf("the guest at % x got a frame for % x with a checksum from %d", g.mac, buf[:6], hdr.CsumStart)
				}
			}
		}
	}
	drops := int(h.ports[0].Stats().Drops[Reason(vnet.BadCsum).String()])
	if got+drops != bursts*burst {
		t.Errorf("of %d frames %d arrived and %d were refused", bursts*burst, got, drops)
	}
}

// Rule 120★ (virtio 1.2, 2.7.4): headers and data may be split over descriptors in any way, and those may be in an indirect table: a network device assumes nothing about where its header ends.
func TestHeaderMayBeSplitInAnyWay(t *testing.T) {
	o := vhosttest.Options{Features: modern | virtio.FeatureIndirect}
	frame := vhosttest.Frame(broadcast, address(0), 60, 7)
	whole := append(make([]byte, 12), frame...)
	for _, s := range []shape{{false}, {true}} {
		t.Run(fmt.Sprintf("indirect %v", s.indirect), func(t *testing.T) {
			h := open(t, 2, PortOptions{})
			a, b := h.bare(0, o), h.bare(1, o)
			for _, sizes := range cuts(len(whole)) {
				at := b.post(s, 0, sizes...)
				a.transmit(s, cut(whole, sizes)...)
				head, n := b.back(b.Pairs[0].RX)
				var got []byte
				for k, size := range sizes {
					got = append(got, b.at(at[k], size)...)
				}
				want := slices.Clone(whole)
				want[10] = 1 // num_buffers
				if head != 0 || int(n) != len(whole) || !bytes.Equal(got, want) {
					t.Fatalf("cut into %v: head %d with %d bytes, % x", sizes, head, n, got)
				}
			}
		})
	}
}

// Rule 125 (virtio 1.2, 5.1.6.4.1): a frame over merged buffers fills all but the last of them completely, num_buffers counts them, and all are shown to the driver together.
func TestMergedBuffersAreFilledOneAfterTheOther(t *testing.T) {
	h := open(t, 2, PortOptions{})
	a := h.plug(0, vhosttest.Options{})
	b := h.bare(1, vhosttest.Options{Features: modern | vnet.FeatureMrgRxbuf})
	rx := b.Pairs[0].RX
	rooms := []int{64, 13, 100, 12, 1500, 33, 1, 700} // the header may end with its buffer
	type buffer struct {
		head uint16
		at   uint64
		room int
	}
	var posted []buffer // the next one first
	next := 0
	for _, size := range []int{14, 51, 52, 53, 60, 65, 66, 67, 164, 165, 600, 1514, 2300} {
		for ; len(posted) < len(rooms); next++ {
			p := buffer{head: uint16(next % 256), room: rooms[next%len(rooms)]}
			p.at = b.post(shape{}, p.head, p.room)[0]
			posted = append(posted, p)
		}
		frame := vhosttest.Frame(broadcast, address(0), size, byte(size))
		a.Send(frame)
		h.until("buffers are used", func() bool { return rx.Used() > 0 })
		shown := rx.Used()
		var got []byte
		for i, want := range posted[:shown] {
			head, n := b.back(rx)
			if uint16(head) != want.head || i+1 < shown && int(n) != want.room {
				t.Fatalf("frame of %d bytes, buffer %d of %d: head %d with %d bytes, want %+v full", size, i, shown, head, n, want)
			}
			got = append(got, b.at(want.at, int(n))...)
		}
		posted = posted[shown:]
		if count := int(got[10]); count != shown || got[11] != 0 || !bytes.Equal(got[12:], frame) {
			t.Fatalf("frame of %d bytes: num_buffers %d, %d were shown, %d bytes", size, count, shown, len(got)-12)
		}
	}
}

// Rule 126★ (virtio 1.2, 5.1.6.4.1): without MRG_RXBUF num_buffers is written all the same, and is 1; the rest of the header of a plain frame is 0.
func TestNumBuffersIsOneWithoutMerging(t *testing.T) {
	h := open(t, 2, PortOptions{})
	a, b := h.plug(0, vhosttest.Options{}), h.bare(1, vhosttest.Options{})
	for _, size := range []int{60, 1500} {
		at := b.post(shape{}, 0, 1526)[0]
		frame := vhosttest.Frame(broadcast, address(0), size, 5)
		a.Send(frame)
		_, n := b.back(b.Pairs[0].RX)
		want := append([]byte{10: 1, 11: 0}, frame...)
		if got := b.at(at, int(n)); !bytes.Equal(got, want) {
			t.Errorf("a frame of %d bytes: % x", size, got[:min(len(got), 26)])
		}
	}
}

// Rule 128 (virtio 1.2, 5.1.6): the virtio-net header has 12 bytes with VERSION_1 or MRG_RXBUF and 10 without both, in each direction; the longer ones are not agreed on.
func TestHeaderSizeFollowsTheFeatures(t *testing.T) {
	for _, c := range []struct {
		features virtio.Features
		size     int
	}{{virtio.FeatureIndirect, 10}, {vnet.FeatureMrgRxbuf, 12}, {modern, 12}, {modern | vnet.FeatureMrgRxbuf, 12}} {
		t.Run(fmt.Sprint(c.features.Names(virtio.Net)), func(t *testing.T) {
			h := open(t, 2, PortOptions{})
			o := vhosttest.Options{Features: c.features | 1<<57} // HASH_REPORT, which is not offered
			a, b := h.bare(0, o), h.bare(1, o)
			if a.Features.Has(1 << 57) {
				t.Error("HASH_REPORT is offered")
			}
			at := b.post(shape{}, 0, 1526)[0]
			frame := vhosttest.Frame(broadcast, address(0), 61, 3)
			a.transmit(shape{}, append(make([]byte, c.size), frame...))
			_, n := b.back(b.Pairs[0].RX)
			if got := b.at(at, int(n)); len(got) != c.size+61 || !bytes.Equal(got[c.size:], frame) {
				t.Errorf("%d bytes: % x", n, got)
			}
		})
	}
}
