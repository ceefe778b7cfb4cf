package fabric

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vhostd/vhostd/vhost/vhosttest"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

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
