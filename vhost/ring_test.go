package vhost

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// running is a dialogue with ring 0 running in a guest of its own.
func running(t *testing.T, s *Server) (*Conn, *guest, <-chan error) {
	t.Helper()
	g := newGuest(t, 0x10000)
	c, ended := dialogue(t, s)
	ok(t, c.AddMemReg(g.region, g.fd))
	g.start(t, c, 0, 0)
	return c, g, ended
}

func wantBase(t testing.TB, c *Conn, ring int, want virtio.Position) {
	t.Helper()
	got, err := c.GetVringBase(ring)
	ok(t, err)
	if got != want {
		t.Errorf("ring %d stopped at %d, want %d", ring, got, want)
	}
}

func TestRingGoesOnWhereItWasStopped(t *testing.T) {
	noLeaks(t)
	c, g, _ := running(t, &Server{Device: newFiller(twoRings)})
	for range 5 {
		g.filled(t)
	}
	ok(t, c.SetStatus(0)) // QEMU 7.2 does so before it asks for the base
	wantBase(t, c, 0, 5)
	wantBase(t, c, 0, 5)
	g.post()
	ok(t, c.SetVringBase(1, 77))
	wantBase(t, c, 1, 77) // never started
	if g.used() != 5 {
		t.Fatal("a stopped ring was served")
	}
	g.start(t, c, 0, 5) // without a new memory table
	eventually(t, "what came while it was stopped is served", func() bool { return g.used() == 6 })
	g.filled(t)
}

func TestRingThatIsDisabledIsPausedNotConsumed(t *testing.T) {
	noLeaks(t)
	c, g, _ := running(t, &Server{Device: newFiller(twoRings)})
	g.filled(t)
	ok(t, c.SetVringEnable(0, false))
	g.post()
	wantBase(t, c, 0, 1)
	if g.used() != 1 {
		t.Error("a disabled ring was consumed")
	}
}

func TestRingsStartedApartDoNotDisturbEachOther(t *testing.T) {
	noLeaks(t)
	c, g, _ := running(t, &Server{Device: newFiller(twoRings)})
	g.filled(t)
	other := newGuest(t, 0x100000)
	ok(t, c.AddMemReg(other.region, other.fd))
	other.start(t, c, 1, 0)
	g.filled(t)
	other.filled(t)
	wantBase(t, c, 1, 1)
	g.filled(t)
}

func TestRingKicksMoveToANewFile(t *testing.T) {
	noLeaks(t)
	c, g, _ := running(t, &Server{Device: newFiller(twoRings)})
	g.filled(t)
	old := g.kick
	var err error
	g.kick, err = newEventfd()
	ok(t, err)
	t.Cleanup(func() { unix.Close(old) })
	ok(t, c.SetVringKick(0, g.kick))
	g.filled(t)
	if n, err := c.GetVringBase(0); err != nil || n != 2 {
		t.Errorf("base %d, %v: the ring was started anew", n, err)
	}
}

func TestRingThatBreaksCostsItselfAndHeals(t *testing.T) {
	for name, heal := range map[string]func(c *Conn) error{
		"GET_VRING_BASE": func(c *Conn) error { _, err := c.GetVringBase(0); return err },
		"RESET_DEVICE":   (*Conn).ResetDevice,
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			device := newFiller(twoRings)
			c, g, _ := running(t, &Server{Device: device})
			s := <-device.opened
			sibling := newGuest(t, 0x100000)
			ok(t, c.AddMemReg(sibling.region, sibling.fd))
			sibling.start(t, c, 1, 0)

			g.postHead(9999)
			eventually(t, "the error eventfd tells", func() bool { return signals(g.err) == 1 })
			if s.Info().Rings[0].Broken == "" {
				t.Error("Info does not tell why the ring is broken")
			}
			sibling.filled(t)

			ok(t, heal(c))
			if b := s.Info().Rings[0].Broken; b != "" {
				t.Errorf("still broken: %v", b)
			}
			g.takeBack()
			g.start(t, c, 0, virtio.Position(g.avail))
			g.filled(t)
		})
	}
}

func TestRingBreaksWhenItsHandlerSaysSo(t *testing.T) {
	noLeaks(t)
	device := newFiller(twoRings)
	var serves atomic.Int64
	device.serve = func(*virtio.Queue) error { serves.Add(1); return errors.New("disk on fire") }
	c, g, _ := running(t, &Server{Device: device})
	g.post()
	eventually(t, "the error eventfd tells", func() bool { return signals(g.err) == 1 })
	before := serves.Load()
	ok(t, c.SetVringEnable(0, false))
	ok(t, c.SetVringEnable(0, true))
	g.post()
	wantBase(t, c, 0, 0)
	if serves.Load() != before {
		t.Error("a broken ring was served again")
	}
}

func TestMemoryComesAndGoesUnderARunningRing(t *testing.T) {
	noLeaks(t)
	device := newFiller(twoRings)
	c, g, _ := running(t, &Server{Device: device})
	g.filled(t)
	maps := mapped(t)

	dimm := newGuest(t, 0x1_0000_0000)
	for range 2 { // once per queue pair
		ok(t, c.AddMemReg(dimm.region, dimm.fd))
	}
	g.filled(t)
	for range 2 {
		ok(t, c.RemMemReg(dimm.region))
	}
	g.filled(t)
	eventually(t, "the region is unmapped", func() bool { return mapped(t) == maps+1 }) // the driver's own

	ok(t, c.SetMemTable([]MemRegion{dimm.region, g.region}, []int{dimm.fd, g.fd}))
	g.filled(t)

	// The ring's own memory goes: it stops before the answer, and comes back.
	ok(t, c.RemMemReg(g.region))
	g.post()
	eventually(t, "the error eventfd tells", func() bool { return signals(g.err) == 1 })
	if g.used() != g.avail-1 {
		t.Error("a ring without memory was served")
	}
	ok(t, c.AddMemReg(g.region, g.fd))
	eventually(t, "the ring lives again", func() bool { return g.used() == g.avail })
	wantBase(t, c, 0, virtio.Position(g.avail))
}

func TestMemoryThatIsTruncatedCostsTheConnectionOnly(t *testing.T) {
	noLeaks(t)
	s := &Server{Device: newFiller(twoRings)}
	_, g, ended := running(t, s)
	g.filled(t)
	ok(t, unix.Ftruncate(g.fd, 0))
	_ = addEventfd(g.kick)
	if _, is := errors.AsType[*memtable.FaultError](dies(t, ended)); !is {
		t.Error("the session does not tell that memory vanished")
	}
	_, g, _ = running(t, s)
	g.filled(t)
}

func TestWorkerThatDoesNotLeaveKeepsItsMemory(t *testing.T) {
	noLeaks(t)
	device := newFiller(twoRings)
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	device.serve = func(q *virtio.Queue) error {
		if _, there := q.Next(); there {
			entered <- struct{}{}
			<-leave
		}
		return nil
	}
	c, g, ended := running(t, &Server{Device: device, Timeout: 500 * time.Millisecond})
	g.post()
	<-entered
	maps := mapped(t)
	c.NoReply = true
	ok(t, c.RemMemReg(g.region))
	if _, is := errors.AsType[*memtable.LateError](dies(t, ended)); !is {
		t.Error("the session does not say who is late")
	}
	if mapped(t) != maps || len(device.closed) != 0 {
		t.Error("memory was taken away under a worker")
	}
	close(leave)
	within(t, "the rest", func() { <-device.closed })
}
