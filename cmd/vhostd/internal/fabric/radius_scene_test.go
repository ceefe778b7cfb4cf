package fabric

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/vhost/vhosttest"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// The ports of a scene: two guests talk, one misbehaves, one must be able to
// tell that it does.
const (
	flowPort    = 0 // and the next
	culpritPort = 2
	witnessPort = 3
)

// patient is how long the culprit's server bears half a message, or a reply that
// is not taken.
const patient = 500 * time.Millisecond

// scene is a hall in which somebody is about to misbehave.
type scene struct {
	*hall
	flow    *flow
	witness *vhosttest.Guest
	mark    byte
}

// stage opens a hall with guests at all ports but the culprit's.
func stage(t *testing.T, o PortOptions) *scene {
	t.Helper()
	h := open(t, 4, o, func(port int, s *vhost.Server) {
		if port == culpritPort {
			s.Timeout = patient
		}
	})
	s := &scene{hall: h}
	s.flow = h.talk(flowPort, h.plug(flowPort, vhosttest.Options{}), h.plug(flowPort+1, vhosttest.Options{}))
	s.witness = h.plug(witnessPort, vhosttest.Options{Pairs: o.Pairs, Features: modern | vnet.FeatureMQ})
	s.witness.Send(vhosttest.Frame(broadcast, address(witnessPort), 60, 0))
	h.until("the witness is known", func() bool {
		_, ok := h.sw.fdb.lookup(macOf(addressSlice(witnessPort)), h.sw.clock())
		return ok
	})
	return s
}

// act runs one misbehaviour: the flow lives before, beside and after it, and
// when it is over nothing of it is left in this process.
func (s *scene) act(t *testing.T, name string, misbehave func(s *scene)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		h := *s.hall
		h.tb = t
		sub := &scene{hall: &h, flow: s.flow, witness: s.witness, mark: s.mark}
		sub.until("the port is free", func() bool { return sub.session() == nil })
		before := holdings(t)
		t.Cleanup(func() { sub.given(before) }) // the last: behind the guests' own
		sub.alive()
		misbehave(sub)
		sub.alive()
		s.mark = sub.mark
	})
}

// alive fails unless the flow goes on and has lost nothing.
func (s *scene) alive() {
	s.tb.Helper()
	s.more(s.flow, 3)
	if n := s.flow.lost.Load(); n > 0 {
		s.tb.Fatalf("%d frames between other ports were lost", n)
	}
}

// session is the culprit's.
func (s *scene) session() *vhost.Session { return s.ports[culpritPort].Session() }

// enter plugs the culprit in.
func (s *scene) enter(o vhosttest.Options) *vhosttest.Guest {
	s.tb.Helper()
	g := s.plug(culpritPort, o)
	s.until("what the culprit says is heard", func() bool { return s.session() != nil })
	return g
}

// works fails unless g, at the culprit's port, and the witness hear each other.
func (s *scene) works(g *vhosttest.Guest) {
	s.tb.Helper()
	s.mark++
	s.carry(g, s.witness, vhosttest.Frame(address(witnessPort), address(culpritPort), 70, s.mark))
	s.carry(s.witness, g, vhosttest.Frame(address(culpritPort), address(witnessPort), 70, s.mark))
}

// carry sends a frame and waits until it arrives as it was sent.
func (s *scene) carry(from, to *vhosttest.Guest, frame []byte) {
	s.tb.Helper()
	from.Send(frame)
	for got := to.Recv(vhosttest.Timeout); !bytes.Equal(got, frame); got = to.Recv(vhosttest.Timeout) {
		if got == nil {
			s.tb.Fatal("a frame of the culprit's port did not arrive")
		}
	}
}

// expelled fails unless the culprit's connection ends, and unless a guest that
// comes after it is served as if nothing had happened.
func (s *scene) expelled(session *vhost.Session) {
	s.tb.Helper()
	s.until("the connection ends", func() bool { return session.Context().Err() != nil && s.session() != session })
	next := s.enter(vhosttest.Options{})
	s.works(next)
	next.Unplug()
}

// holding is what of this process a peer can make grow.
type holding struct{ files, mappings, goroutines int }

// holdings counts them.
func holdings(tb testing.TB) (h holding) {
	tb.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Skip("needs /proc: ", err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		tb.Skip("needs /proc: ", err)
	}
	return holding{len(fds), strings.Count(string(maps), "/memfd:"), runtime.NumGoroutine()}
}

// given fails unless everything is given back that was taken since before.
func (s *scene) given(before holding) {
	s.tb.Helper()
	var now holding
	for end := time.Now().Add(vhosttest.Timeout); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if now = holdings(s.tb); now.files <= before.files && now.mappings <= before.mappings && now.goroutines <= before.goroutines {
			return
		}
	}
	stacks := make([]byte, 1<<16)
	s.tb.Errorf("held %+v before, %+v now\n%s", before, now, stacks[:runtime.Stack(stacks, true)])
}

// eventfd makes an eventfd that is closed with the test.
func (s *scene) eventfd(initval uint) int {
	s.tb.Helper()
	fd, err := unix.Eventfd(initval, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { unix.Close(fd) })
	return fd
}

// signalled says whether somebody rang the eventfd, and takes the signal.
func signalled(fd int) bool {
	var count [8]byte
	n, _ := unix.Read(fd, count[:])
	return n == 8
}
