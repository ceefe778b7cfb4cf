package qemutest

import (
	"bytes"
	"context"
	"testing"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// TestGuestWithMemoryOnBothSidesOfTheHole has a guest with 3 GiB: on a q35
// machine the last of them lies above 4 GiB, as a region of its own. The same
// guest has an entropy device.
func TestGuestWithMemoryOnBothSidesOfTheHole(t *testing.T) {
	l, ctx := newLab(t)
	q := newest(ctx, t)
	socket := l.Socket("entropy")
	_, err := l.Program(ctx, "./examples/entropy", "entropy", func() bool { return there(socket) }, socket)
	if err != nil {
		t.Fatal(err)
	}
	large := Guest{QEMU: q, Memory: 3072, Devices: []Device{{Driver: "vhost-user-rng-pci", Socket: socket}}}
	p := bootPair(ctx, t, l, Guest{QEMU: q}, large, link{name: "net"})

	t.Run("the daemon has both regions", func(t *testing.T) {
		below, above := p.regions(ctx, t)
		if below == 0 || above == 0 || below+above < 3*gib-mib || below+above > 3*gib {
			t.Errorf("%d bytes below 4 GiB and %d above, not 3 GiB on both sides", below, above)
		}
	})
	t.Run("traffic in high memory", func(t *testing.T) {
		p.pings(ctx, t, "net", 10, 1400)
		p.streams(ctx, t, p.sideB("net").v4, streamSize/2)
	})
	t.Run("traffic in low memory", func(t *testing.T) {
		// The kernel hands out high memory first: fill it, and have the rings
		// and buffers made anew.
		if _, err := Ask[guestapi.Mem](ctx, p.b, guestapi.OpMemFill, guestapi.Count{Bytes: gib + gib/4}); err != nil {
			t.Fatal(err)
		}
		p.rebind(ctx, t, p.b, macB(0))
		p.upB(ctx, t, link{name: "net"})
		p.pings(ctx, t, "net", 10, 1400)
		p.streams(ctx, t, p.sideB("net").v4, streamSize/2)
	})
	t.Run("entropy", func(t *testing.T) { p.entropy(ctx, t) })
	p.healthy(ctx, t)
}

// regions sums up B's memory below and above 4 GiB, in bytes.
func (p *pair) regions(ctx context.Context, t *testing.T) (below, above uint64) {
	t.Helper()
	mem, err := Show[PortMemory](ctx, p.d, "mem", "net-b")
	if err != nil || len(mem) != 1 {
		t.Fatalf("memory of net-b: %v, %v", mem, err)
	}
	for _, r := range mem[0].Regions {
		if r.Guest < 4*gib {
			below += r.Size
		} else {
			above += r.Size
		}
	}
	return below, above
}

// entropy reads more random numbers than one buffer of the device holds.
func (p *pair) entropy(ctx context.Context, t *testing.T) {
	name, err := Ask[guestapi.Bytes](ctx, p.b, guestapi.OpRead, guestapi.File{Path: "/sys/class/misc/hw_random/rng_current"})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(name.Data, []byte("virtio_rng")) {
		t.Fatalf("the kernel's random numbers come from %q", name.Data)
	}
	var last []byte
	for range 3 {
		r, err := Ask[guestapi.Bytes](ctx, p.b, guestapi.OpRNGRead, guestapi.Count{Bytes: 16 << 10})
		if err != nil {
			t.Fatal(err)
		}
		// Of 64 KiB of random numbers 1 in 256 is 0; of memory that was not
		// written, all.
		if zeros := bytes.Count(r.Data, []byte{0}); zeros > len(r.Data)/64 {
			t.Errorf("%d of %d random bytes are 0", zeros, len(r.Data))
		}
		if bytes.Equal(r.Data, last) {
			t.Error("the same random numbers came twice")
		}
		last = r.Data
	}
}
