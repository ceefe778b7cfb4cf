package fabric

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/vhost/vhosttest"
)

// jam makes an eventfd that blocks whoever writes to it: its counter is full and
// O_NONBLOCK is not set.
func (s *scene) jam() int {
	s.tb.Helper()
	fd := s.made(unix.Eventfd(0, unix.EFD_CLOEXEC))
	var full [8]byte
	binary.NativeEndian.PutUint64(full[:], 1<<64-2)
	if _, err := unix.Write(fd, full[:]); err != nil {
		s.tb.Fatal(err)
	}
	return fd
}

// free takes what is in a jammed eventfd: who writes there goes on.
func free(fd int) {
	var count [8]byte
	_, _ = unix.Read(fd, count[:])
}

// deaf sends frames both ways past rings whose calls do not get through: the
// guest looks by itself.
func (s *scene) deaf(g *vhosttest.Guest) {
	s.tb.Helper()
	for range 20 {
		s.works(g)
	}
	s.alive()
}

// Whether a call blocks must matter to nobody but who jams it (a doorbell of its
// own for each ring).
func TestAJammedCallStopsNobodyAndCanBeUnplugged(t *testing.T) {
	s := stage(t, PortOptions{})
	s.act(t, "unplug", func(s *scene) {
		g := s.enter(vhosttest.Options{})
		for ring := range 2 {
			s.ok(g.Conn.SetVringCall(ring, s.jam()))
		}
		s.deaf(g)
	})
	s.act(t, "one call for both rings", func(s *scene) {
		g, fd := s.enter(vhosttest.Options{}), s.jam()
		for ring := range 2 {
			s.ok(g.Conn.SetVringCall(ring, fd))
		}
		s.deaf(g)
	})
	s.act(t, "replaced by a good one", func(s *scene) {
		g := s.enter(vhosttest.Options{})
		s.ok(g.Conn.SetVringCall(0, s.jam()))
		s.deaf(g)
		good := s.eventfd(0)
		s.ok(g.Conn.SetVringCall(0, good))
		s.works(g)
		s.until("the good one is rung", func() bool { return signalled(good) })
	})
	s.act(t, "stopped", func(s *scene) {
		g := s.enter(vhosttest.Options{})
		s.ok(g.Conn.SetVringCall(0, s.jam()))
		s.ok(g.Conn.SetVringCall(1, s.jam()))
		s.deaf(g)
		for ring := range 2 {
			_, err := g.Conn.GetVringBase(ring)
			s.ok(err)
		}
	})
	s.act(t, "let go", func(s *scene) {
		g, fd := s.enter(vhosttest.Options{}), s.jam()
		s.ok(g.Conn.SetVringCall(0, fd))
		s.deaf(g)
		free(fd)
		s.works(g)
		s.until("the call that waited gets through", func() bool { return signalledBlocking(fd) })
	})
	s.flow.end()
}

// signalledBlocking is signalled for an eventfd that may block.
func signalledBlocking(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(p, 0)
	return n == 1 && signalled(fd)
}

func TestAJammedErrorEventfdStopsNobody(t *testing.T) {
	s := stage(t, PortOptions{})
	for ring, side := range []string{"receive", "transmit"} {
		s.act(t, side, func(s *scene) {
			g := s.enter(vhosttest.Options{})
			s.works(g)
			s.ok(g.Conn.SetVringErr(ring, s.jam()))
			if ring == 1 {
				g.Pairs[0].TX.Corrupt(0xffff)
			} else {
				g.Pairs[0].RX.Jump(1000)
				s.witness.Send(vhosttest.Frame(address(culpritPort), address(witnessPort), 60, 0))
			}
			s.until("the ring is broken", func() bool { return s.session().Info().Rings[ring].Broken != "" })
			s.alive()
		})
	}
	s.flow.end()
}

func TestAFullKickStopsNobody(t *testing.T) {
	s := stage(t, PortOptions{})
	s.act(t, "full before the ring starts, and blocking", func(s *scene) {
		g := s.enter(vhosttest.Options{})
		_, err := g.Conn.GetVringBase(1)
		s.ok(err)
		g.Send(vhosttest.Frame(address(witnessPort), address(culpritPort), 64, 5))
		s.ok(g.Conn.SetVringKick(1, s.jam()))
		if got := s.witness.Recv(vhosttest.Timeout); len(got) != 64 {
			s.tb.Error("what lay in the ring when it started was not looked at")
		}
	})
	s.act(t, "replaced while the ring runs", func(s *scene) {
		g := s.enter(vhosttest.Options{})
		s.works(g)
		s.ok(g.Conn.SetVringKick(1, s.jam()))
		s.ok(g.Conn.SetVringKick(0, s.jam()))
		s.alive()
	})
	s.act(t, "one for the rings of two guests", func(s *scene) {
		g, fd := s.enter(vhosttest.Options{}), s.eventfd(0)
		s.ok(g.Conn.SetVringKick(1, fd))
		s.ok(g.Conn.SetVringKick(0, fd))
		s.ok(g.Conn.SetVringCall(0, fd)) // and it calls itself
		s.ok(g.Conn.SetVringCall(1, fd))
		for range 20 {
			s.carry(s.witness, g, vhosttest.Frame(address(culpritPort), address(witnessPort), 64, 1))
		}
	})
	s.flow.end()
}

func TestTooManyAndTooFewFiles(t *testing.T) {
	s := stage(t, PortOptions{})
	for _, n := range []int{10, 64, 253} { // 253 is what the kernel takes at most
		s.act(t, "more than a message has", func(s *scene) {
			c := s.connect()
			fds := make([]int, n)
			for i := range fds {
				fds[i] = s.witness.FD
			}
			s.put(c, frameOf(s.tb, vhost.SetOwner, version, nil), fds...)
			s.hungUp(c)
			s.served()
		})
	}
	s.act(t, "a call without its file", func(s *scene) {
		g := s.enter(vhosttest.Options{})
		session := s.session()
		_ = g.Conn.Send(vhost.SetVringCall, version, bytesOf(s.tb, vhost.VringFD{Index: 0}))
		s.expelled(session)
	})
	s.flow.end()
}
