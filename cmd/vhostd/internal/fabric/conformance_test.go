package fabric

import (
	"bytes"
	"slices"
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
