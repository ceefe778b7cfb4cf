package vhost

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vhostd/vhostd/virtio"
)

// bad messages, each sent after a dialogue has agreed on everything and ring 0
// runs in g.
var badMessages = map[string]func(c *Conn, g *guest) error{
	"a feature that was not offered":        func(c *Conn, g *guest) error { return c.SetFeatures(virtio.FeatureProtocol | virtio.FeaturePacked) },
	"features change while a ring runs":     func(c *Conn, g *guest) error { return c.SetFeatures(virtio.FeatureProtocol) },
	"ring of 0":                             func(c *Conn, g *guest) error { return c.SetVringNum(1, 0) },
	"ring of 24":                            func(c *Conn, g *guest) error { return c.SetVringNum(1, 24) },
	"ring larger than the device takes":     func(c *Conn, g *guest) error { return c.SetVringNum(1, 512) },
	"size of 2^16, which would wrap to 0":   func(c *Conn, g *guest) error { return c.SetVringNum(1, 1<<16) },
	"ring past the last":                    func(c *Conn, g *guest) error { return c.SetVringNum(2, 16) },
	"call for a ring past the last":         func(c *Conn, g *guest) error { return c.SetVringCall(255, g.call) },
	"size of a ring that runs":              func(c *Conn, g *guest) error { return c.SetVringNum(0, ringSize) },
	"base of a ring that runs":              func(c *Conn, g *guest) error { return c.SetVringBase(0, 0) },
	"base of a packed ring":                 func(c *Conn, g *guest) error { return c.SetVringBase(1, 0x80008000) },
	"another address of a ring that runs":   func(c *Conn, g *guest) error { a := g.addr(0); a.Used += 64; return c.SetVringAddr(a) },
	"misaligned descriptor table":           func(c *Conn, g *guest) error { a := g.addr(1); a.Desc += 8; return c.SetVringAddr(a) },
	"misaligned available ring":             func(c *Conn, g *guest) error { a := g.addr(1); a.Avail++; return c.SetVringAddr(a) },
	"misaligned used ring":                  func(c *Conn, g *guest) error { a := g.addr(1); a.Used += 2; return c.SetVringAddr(a) },
	"a kick that is no eventfd":             func(c *Conn, g *guest) error { return c.SetVringKick(1, g.fd) },
	"a call that is no eventfd":             func(c *Conn, g *guest) error { return c.SetVringCall(1, g.fd) },
	"enable with 2":                         func(c *Conn, g *guest) error { return c.vring(SetVringEnable, 1, 2) },
	"status of 9 bits":                      func(c *Conn, g *guest) error { return c.tell(SetStatus, U64(0x100)) },
	"MTU for a device that has none":        func(c *Conn, g *guest) error { return c.NetSetMTU(1500) },
	"region that overlaps in the guest":     func(c *Conn, g *guest) error { r := g.region; r.UVA += 1 << 30; return c.AddMemReg(r, g.fd) },
	"region that overlaps in the front-end": func(c *Conn, g *guest) error { r := g.region; r.GPA += 1 << 30; return c.AddMemReg(r, g.fd) },
	"region past the end of its file":       func(c *Conn, g *guest) error { r := elsewhere(g); r.Size++; return c.AddMemReg(r, g.fd) },
	"region at a negative offset":           func(c *Conn, g *guest) error { r := elsewhere(g); r.Offset = 1 << 63; return c.AddMemReg(r, g.fd) },
	"empty region":                          func(c *Conn, g *guest) error { r := elsewhere(g); r.Size = 0; return c.AddMemReg(r, g.fd) },
	"region that wraps":                     func(c *Conn, g *guest) error { r := elsewhere(g); r.GPA = 1<<64 - 4096; return c.AddMemReg(r, g.fd) },
	"memory that is an eventfd":             func(c *Conn, g *guest) error { return c.AddMemReg(elsewhere(g), g.kick) },
	"memory without a file":                 func(c *Conn, g *guest) error { return c.tell(AddMemReg, SingleRegion(elsewhere(g))) },
	"a channel that is no socket":           func(c *Conn, g *guest) error { return c.tell(SetBackendReqFD, nil, g.kick) },
	"fewer files than regions":              func(c *Conn, g *guest) error { return c.tell(SetMemTable, MemTable{g.region, elsewhere(g)}, g.fd) },
	"table with a bad second region": func(c *Conn, g *guest) error {
		r := elsewhere(g)
		r.Offset = 1 << 20
		return c.SetMemTable([]MemRegion{elsewhere(g), r}, []int{g.fd, g.fd})
	},
	"in-flight files, which are not served":  func(c *Conn, g *guest) error { return c.tell(SetInflightFD, zeros(20), g.fd) },
	"in-band kicks, which are not served":    func(c *Conn, g *guest) error { return c.tell(VringKick, VringState{}) },
	"payload of a wrong size":                func(c *Conn, g *guest) error { return c.tell(SetVringNum, zeros(7)) },
	"a file nobody asked for, a wrong value": func(c *Conn, g *guest) error { return c.tell(SetVringNum, VringState{1, 16}, g.kick) },
}

// zeros is a payload without meaning.
type zeros int

func (z zeros) AppendBinary(b []byte) ([]byte, error) { return append(b, make([]byte, z)...), nil }

// elsewhere is g's memory once more, where nothing is.
func elsewhere(g *guest) MemRegion {
	r := g.region
	r.GPA, r.UVA = r.GPA+1<<30, r.UVA+1<<30
	return r
}

func TestSessionRefusesABadMessageAndChangesNothing(t *testing.T) {
	noLeaks(t)
	g := newGuest(t, 0x10000)
	device := newFiller(twoRings)
	c, _ := dialogue(t, &Server{Device: device})
	ok(t, c.AddMemReg(g.region, g.fd))
	g.start(t, c, 0, 0)
	s := <-device.opened
	g.filled(t)
	before := state(s)
	for name, send := range badMessages {
		t.Run(name, func(t *testing.T) {
			files := openFiles(t)
			refusedBy(t, c, send(c, g))
			if n := openFiles(t); n != files {
				t.Errorf("%d files were kept", n-files)
			}
			if now := state(s); now != before {
				t.Errorf("the state changed from %q to %q", before, now)
			}
			g.filled(t)
		})
	}
}

// state tells what may not change when a message is refused.
func state(s *Session) string {
	i, m := s.snapshot()
	var b strings.Builder
	for _, r := range m.regions {
		fmt.Fprintln(&b, showRegion(r.MemRegion))
	}
	for _, r := range i.Rings {
		fmt.Fprintln(&b, r.Size, r.Desc, r.Avail, r.Used, r.Started, r.Enabled, r.Broken, r.KickFD, r.CallFD)
	}
	fmt.Fprintln(&b, i.Features, i.Protocol, i.Status)
	return b.String()
}

func TestSessionEndsAtABadMessageThatCannotBeRefused(t *testing.T) {
	for name, send := range badMessages {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			g := newGuest(t, 0x10000)
			c, ended := dialogue(t, &Server{Device: newFiller(twoRings)})
			ok(t, c.AddMemReg(g.region, g.fd))
			g.start(t, c, 0, 0)
			c.NoReply = true
			ok(t, send(c, g))
			if err := dies(t, ended); err == nil {
				t.Error("the session ended without a reason")
			}
		})
	}
}

func TestSessionToleratesWhatNobodyKnows(t *testing.T) {
	noLeaks(t)
	g := newGuest(t, 0)
	c, _ := dialogue(t, &Server{Device: newFiller(twoRings)})
	refusedBy(t, c, c.tell(99, zeros(3), g.kick))
	files := openFiles(t)
	c.NoReply = true
	ok(t, c.tell(99, zeros(3), g.kick))
	lives(t, c)
	if n := openFiles(t); n != files {
		t.Errorf("%d files were kept", n-files)
	}
}

func TestSessionTellsTheOperatorThatMemoryIsNotShared(t *testing.T) {
	g := newGuest(t, 0)
	c, ended := serve(t, &Server{Device: newFiller(twoRings)})
	ok(t, c.Send(SetMemTable, flagVersion, bytesOf(MemTable{g.region})))
	if err := dies(t, ended); err == nil || !strings.Contains(err.Error(), "memory-backend-memfd,id=mem,size=…,share=on") {
		t.Errorf("the operator reads %v", err)
	}
}

func TestSessionAnswersByNumberWhatItDoesNotServe(t *testing.T) {
	c, _ := dialogue(t, &Server{Device: newFiller(twoRings)})
	for _, m := range []struct {
		request Request
		payload payload
	}{
		{IOTLBMsg, zeros(32)}, {IOTLBMsg, zeros(26)}, {PostcopyListen, zeros(0)}, {PostcopyEnd, zeros(0)}, {CheckDeviceState, zeros(0)},
	} {
		var code U64
		ok(t, c.ask(m.request, m.payload, &code))
		if code == 0 {
			t.Errorf("%v was answered with success", m.request)
		}
	}
	if _, err := c.GetConfig(0, 8); err == nil {
		t.Error("a device without config space gave some")
	}
	lives(t, c)
}

// vhost-user, REPLY_ACK: no acknowledgement before it was agreed on.
func TestSessionAcknowledgesOnlyOnceThatWasAgreed(t *testing.T) {
	c, _ := serve(t, &Server{Device: newFiller(twoRings)})
	ok(t, c.Send(SetOwner, flagVersion|flagNeedReply, nil))
	ok(t, c.Send(GetFeatures, flagVersion|flagNeedReply, nil))
	request, flags, _, _, err := c.Receive()
	ok(t, err)
	if request != GetFeatures || flags != flagVersion|flagReply {
		t.Errorf("answered by %v with flags %#x", request, flags)
	}
	ok(t, c.Send(SetProtocolFeatures, flagVersion, bytesOf(U64(ProtocolReplyAck)))) // without GET before
	ok(t, c.Send(SetOwner, flagVersion|flagNeedReply, nil))
	request, flags, p, _, err := c.Receive()
	ok(t, err)
	if request != SetOwner || flags != flagVersion|flagReply || string(p) != string(bytesOf(U64(0))) {
		t.Errorf("answered by %v with flags %#x: %x", request, flags, p)
	}
}
