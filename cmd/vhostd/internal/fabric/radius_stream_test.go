package fabric

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/vhost/vhosttest"
)

// frameOf is a message as it travels.
func frameOf(tb testing.TB, request vhost.Request, flags uint32, payload []byte) []byte {
	tb.Helper()
	b := binary.NativeEndian.AppendUint32(nil, uint32(request))
	b = binary.NativeEndian.AppendUint32(b, flags)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// connect opens a bare connection to the culprit's port.
func (s *scene) connect() *net.UnixConn {
	s.tb.Helper()
	var c *net.UnixConn
	s.until("connected", func() (ok bool) { // EAGAIN: too many wait to be accepted
		var err error
		c, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: s.paths[culpritPort]})
		return err == nil
	})
	s.tb.Cleanup(func() { c.Close() })
	return c
}

// put writes b, with a file if there is one.
func (s *scene) put(c *net.UnixConn, b []byte, fds ...int) {
	s.tb.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := c.WriteMsgUnix(b, oob, nil); err != nil {
		s.tb.Fatal(err)
	}
}

// hungUp fails unless the back-end closes c; replies before are passed over.
func (s *scene) hungUp(c *net.UnixConn) {
	s.tb.Helper()
	if err := c.SetReadDeadline(time.Now().Add(vhosttest.Timeout)); err != nil {
		s.tb.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, unix.ECONNRESET) {
		s.tb.Fatalf("the connection was not closed: %v", err)
	}
}

// served fails unless a guest at the culprit's port works. Where many came before
// it, it may find the port full, as it finds it closed before a start, and has to
// come again.
func (s *scene) served() {
	s.tb.Helper()
	s.until("a guest is let in", func() bool {
		c, err := vhost.DialConn(s.tb.Context(), s.paths[culpritPort], vhosttest.Timeout)
		if err != nil {
			return false
		}
		defer c.Close()
		_, err = c.GetFeatures()
		return err == nil
	})
	g := s.enter(vhosttest.Options{})
	s.works(g)
}

func TestABadHeaderCostsItsConnection(t *testing.T) {
	s := stage(t, PortOptions{})
	for name, b := range map[string][]byte{
		"version 0":                  frameOf(t, vhost.SetOwner, 0, nil),
		"version 2":                  frameOf(t, vhost.SetOwner, 2, nil),
		"version 3":                  frameOf(t, vhost.SetOwner, 3|needReply, nil),
		"a payload of 4097 bytes":    frameOf(t, vhost.SetFeatures, version, make([]byte, 4097)),
		"a payload of 2^32-1 bytes":  binary.NativeEndian.AppendUint32(frameOf(t, vhost.SetFeatures, version, nil)[:8], 1<<32-1),
		"12 bytes of 0xff":           {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255},
		"another protocol's message": []byte("GET / HTTP/1.1\r\nHost: vhostd\r\n\r\n"),
	} {
		s.act(t, name, func(s *scene) {
			c := s.connect()
			s.put(c, b, s.eventfd(0))
			s.hungUp(c)
			s.served()
		})
	}
	s.flow.end()
}

// The flag has no meaning towards a back-end (vhost-user, "Header"): to serve
// the request costs nobody anything.
func TestARequestThatSaysItIsAReplyIsServed(t *testing.T) {
	s := stage(t, PortOptions{})
	s.act(t, "reply flag", func(s *scene) {
		g := s.enter(vhosttest.Options{})
		if err := g.Conn.Send(vhost.GetFeatures, version|4, nil); err != nil {
			s.tb.Fatal(err)
		}
		if request, flags, p, _, err := g.Conn.Receive(); err != nil || request != vhost.GetFeatures || flags != version|4 || len(p) != 8 {
			s.tb.Fatalf("answered by %v, flags %#x, %d bytes: %v", request, flags, len(p), err)
		}
		s.works(g)
	})
}

func TestHalfAMessageCostsItsConnection(t *testing.T) {
	s := stage(t, PortOptions{})
	region, _ := vhost.SingleRegion(own).AppendBinary(nil)
	whole := frameOf(t, vhost.AddMemReg, version|needReply, region)
	s.act(t, "and a close, at every byte", func(s *scene) {
		for n := range whole {
			c := s.connect()
			if n > 0 {
				s.put(c, whole[:n], s.witness.FD)
			}
			s.ok(c.CloseWrite())
			s.hungUp(c)
			c.Close()
		}
		s.served()
	})
	for _, n := range []int{1, 11, 12, 13, len(whole) - 1} {
		s.act(t, fmt.Sprintf("and silence after %d bytes", n), func(s *scene) {
			c := s.connect()
			s.put(c, whole[:n], s.witness.FD)
			s.alive() // meanwhile
			s.hungUp(c)
			s.served()
		})
	}
	s.act(t, "drop by drop, each with files", func(s *scene) {
		c := s.connect()
		for i := range whole { // more files than a message may have, over many reads
			if _, _, err := c.WriteMsgUnix(whole[i:i+1], unix.UnixRights(s.witness.FD), nil); err != nil {
				break // hung up on
			}
		}
		s.hungUp(c)
		s.served()
	})
	s.flow.end()
}

func TestWhoTakesNoRepliesHoldsUpNobody(t *testing.T) {
	s := stage(t, PortOptions{})
	s.act(t, "1000 questions", func(s *scene) {
		c := s.connect()
		s.put(c, bytes.Repeat(frameOf(s.tb, vhost.GetFeatures, version, nil), 1000))
		s.until("somebody is there", func() bool { return s.session() != nil })
		session := s.session()
		// Whoever looks at the port is answered while a reply waits to be taken.
		s.until("a look at the port is answered", func() bool {
			last := session.Info().Messages
			if session.Context().Err() != nil {
				s.tb.Fatal("a look at the port is held up until the connection ends")
			}
			return len(last) > 0 && time.Since(last[len(last)-1].At) > patient/10
		})
		s.expelled(session)
	})
	s.flow.end()
}

func TestThousandsOfMessagesWithFilesKeepNone(t *testing.T) {
	s := stage(t, PortOptions{})
	s.act(t, "files", func(s *scene) {
		g := s.enter(vhosttest.Options{})
		fd := s.eventfd(0)
		before := holdings(s.tb)
		for i := range 1000 {
			m := badMessage{request: vhost.SetVringNum, payload: vhost.VringState{Index: 0, Num: 256}, file: files(1 + i%9)}
			if reply, alive := m.send(s, g, version|needReply); !alive || reply[0] == 0 {
				s.tb.Fatal("a file that was not asked for was not refused")
			}
			for _, set := range []func(int, int) error{g.Conn.SetVringCall, g.Conn.SetVringErr} {
				if err := set(i%2, fd); err != nil {
					s.tb.Fatal(err)
				}
			}
		}
		before.files += 2      // the error eventfds
		before.goroutines += 2 // and who rings them
		s.given(before)
	})
	s.flow.end()
}

func TestConnectionsThatSayNothingHoldNobody(t *testing.T) {
	s := stage(t, PortOptions{})
	s.act(t, "while a guest is served", func(s *scene) {
		g := s.enter(vhosttest.Options{})
		session := s.session()
		before := holdings(s.tb)
		for range 200 {
			s.connect()
		}
		s.works(g)
		if s.session() != session {
			s.tb.Error("who says nothing took a guest's place")
		}
		if n := holdings(s.tb).files - before.files - 200; n > 16 {
			s.tb.Errorf("%d of them are held at a time", n)
		}
	})
	s.act(t, "while nobody is", func(s *scene) {
		for range 200 {
			s.connect()
		}
		s.served()
	})
	s.flow.end()
}
