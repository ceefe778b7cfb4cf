package vhost

import (
	"encoding"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// backend is the other end of a Conn: it takes one message and answers with
// what answer gives, for as long as there are messages.
func backend(t *testing.T, timeout time.Duration, answer func(m *message) (flags uint32, payload []byte, ok bool)) *Conn {
	t.Helper()
	w, c := pair(t, testTimeout)
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			m, err := w.read()
			if err != nil {
				return
			}
			if flags, payload, ok := answer(m); ok {
				_ = w.write(m.Request, flags, payload)
			}
		}
	}()
	conn := NewConn(c, timeout)
	t.Cleanup(func() {
		conn.Close()
		<-served
	})
	return conn
}

func bytesOf(v encoding.BinaryAppender) []byte {
	b, _ := v.AppendBinary(nil)
	return b
}

func TestConnAsksForAcksOnlyOnceTheyWereAgreed(t *testing.T) {
	flags := make(chan uint32, 1)
	c := backend(t, testTimeout, func(m *message) (uint32, []byte, bool) {
		flags <- m.Flags
		return flagVersion | flagReply, bytesOf(U64(0)), m.needReply()
	})
	for _, step := range []struct {
		do   func() error
		want uint32
	}{
		{c.SetOwner, flagVersion},
		{func() error { return c.SetProtocolFeatures(ProtocolReplyAck) }, flagVersion},
		{c.SetOwner, flagVersion | flagNeedReply},
		{func() error { c.NoReply = true; return c.SetOwner() }, flagVersion},
		{func() error { c.NoReply = false; return c.SetProtocolFeatures(ProtocolMQ) }, flagVersion},
		{c.SetOwner, flagVersion},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := <-flags; got != step.want {
			t.Errorf("sent with flags %#x, want %#x", got, step.want)
		}
	}
}

func TestConnARefusalLeavesTheConnectionUsable(t *testing.T) {
	c := backend(t, testTimeout, func(m *message) (uint32, []byte, bool) {
		switch Request(m.Request) {
		case GetConfig:
			return flagVersion | flagReply, nil, true // size 0: failed
		case GetFeatures:
			return flagVersion | flagReply, bytesOf(U64(7)), true
		}
		return flagVersion | flagReply, bytesOf(U64(22)), m.needReply()
	})
	if err := c.SetProtocolFeatures(ProtocolReplyAck); err != nil {
		t.Fatal(err)
	}
	var refusal *RefusedError
	if err := c.SetVringNum(0, 3); !errors.As(err, &refusal) || *refusal != (RefusedError{SetVringNum, 22}) {
		t.Errorf("SetVringNum: %v", err)
	}
	if _, err := c.GetConfig(0, 8); !errors.As(err, &refusal) || refusal.Request != GetConfig {
		t.Errorf("GetConfig: %v", err)
	}
	if f, err := c.GetFeatures(); err != nil || f != 7 {
		t.Errorf("after refusals: %v, %v", f, err)
	}
}

func TestConnABadReplyIsFatal(t *testing.T) {
	u64 := bytesOf(U64(1))
	for name, raw := range map[string][]byte{
		"other number":        packet(SetFeatures, 5, u64),
		"no reply flag":       packet(GetFeatures, 1, u64),
		"need_reply is kept":  packet(GetFeatures, 13, u64),
		"version 0":           packet(GetFeatures, 4, u64),
		"short payload":       packet(GetFeatures, 5, u64[:7]),
		"long payload":        packet(GetFeatures, 5, append(u64, 0)),
		"end of the stream":   nil,
		"a file and no reply": packet(GetFeatures, 1, nil),
	} {
		t.Run(name, func(t *testing.T) {
			w, peer := pair(t, testTimeout)
			c := NewConn(w.c, testTimeout)
			if raw == nil {
				_ = peer.CloseWrite()
			} else {
				_, _ = peer.Write(raw)
			}
			if _, err := c.GetFeatures(); err == nil {
				t.Fatal("was taken")
			}
			_, _ = peer.Write(packet(GetFeatures, 5, u64))
			if _, err := c.GetFeatures(); err == nil {
				t.Error("the connection was used again")
			}
		})
	}
}

func TestConnGivesUpOnABackendThatDoesNotAnswer(t *testing.T) {
	c := backend(t, 20*time.Millisecond, func(*message) (uint32, []byte, bool) { return 0, nil, false })
	within(t, "GetFeatures", func() {
		if _, err := c.GetFeatures(); err == nil {
			t.Error("answered")
		}
	})
}

func TestConnAnswersForAnotherRingAreRefused(t *testing.T) {
	c := backend(t, testTimeout, func(m *message) (uint32, []byte, bool) {
		return flagVersion | flagReply, bytesOf(VringState{1, 9}), true
	})
	if p, err := c.GetVringBase(1); err != nil || p != 9 {
		t.Errorf("got %v, %v", p, err)
	}
	if _, err := c.GetVringBase(0); err == nil {
		t.Error("ring 1's position was taken for ring 0's")
	}
}

// Every message must pass the table that the back-end holds it against.
func TestConnMessagesAreWellFormed(t *testing.T) {
	type arrival struct {
		request Request
		err     error
	}
	arrivals := make(chan arrival, 1)
	c := backend(t, testTimeout, func(m *message) (uint32, []byte, bool) {
		r := Request(m.Request)
		arrivals <- arrival{r, r.check(m)}
		switch i, _ := r.info(); {
		case r == GetVringBase:
			return flagVersion | flagReply, m.Payload, true
		case r == GetConfig:
			return flagVersion | flagReply, m.Payload, true
		case i.answer == replied:
			return flagVersion | flagReply, bytesOf(U64(1)), true
		}
		return flagVersion | flagReply, bytesOf(U64(0)), m.needReply()
	})
	fd, err := newEventfd()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := c.SetProtocolFeatures(ProtocolReplyAck); err != nil {
		t.Fatal(err)
	}
	<-arrivals
	for want, do := range map[Request]func() error{
		GetFeatures:         func() error { _, err := c.GetFeatures(); return err },
		SetFeatures:         func() error { return c.SetFeatures(1) },
		SetOwner:            c.SetOwner,
		ResetOwner:          c.ResetOwner,
		ResetDevice:         c.ResetDevice,
		GetProtocolFeatures: func() error { _, err := c.GetProtocolFeatures(); return err },
		GetQueueNum:         func() error { _, err := c.GetQueueNum(); return err },
		GetMaxMemSlots:      func() error { _, err := c.GetMaxMemSlots(); return err },
		SetMemTable:         func() error { return c.SetMemTable(make([]MemRegion, 2), []int{fd, fd}) },
		AddMemReg:           func() error { return c.AddMemReg(MemRegion{}, fd) },
		RemMemReg:           func() error { return c.RemMemReg(MemRegion{}) },
		SetLogBase:          func() error { return c.SetLogBase(LogBase{}, fd) },
		SetVringNum:         func() error { return c.SetVringNum(0, 256) },
		SetVringAddr:        func() error { return c.SetVringAddr(VringAddr{}) },
		SetVringBase:        func() error { return c.SetVringBase(0, 0) },
		GetVringBase:        func() error { _, err := c.GetVringBase(0); return err },
		SetVringKick:        func() error { return c.SetVringKick(0, fd) },
		SetVringCall:        func() error { return c.SetVringCall(0, -1) },
		SetVringErr:         func() error { return c.SetVringErr(0, fd) },
		SetVringEnable:      func() error { return c.SetVringEnable(0, true) },
		SetStatus:           func() error { return c.SetStatus(15) },
		GetStatus:           func() error { _, err := c.GetStatus(); return err },
		NetSetMTU:           func() error { return c.NetSetMTU(1500) },
		SendRARP:            func() error { return c.SendRARP([6]byte{1}) },
		GetConfig:           func() error { _, err := c.GetConfig(0, 57); return err },
		SetConfig:           func() error { return c.SetConfig(32, []byte{1}, true) },
		SetBackendReqFD: func() error {
			channel, err := c.SetBackendReqFD()
			if err == nil {
				channel.Close()
			}
			return err
		},
	} {
		if err := do(); err != nil {
			t.Errorf("%v: %v", want, err)
		}
		if got := <-arrivals; got != (arrival{want, nil}) {
			t.Errorf("sent %v for %v: %v", got.request, want, got.err)
		}
	}
}

func TestConnRawMessagesPassAsTheyAre(t *testing.T) {
	w, peer := pair(t, testTimeout)
	c := NewConn(w.c, testTimeout)
	if err := c.Send(99, 0x7, []byte("odd")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, headerBytes+3)
	if _, err := peer.Read(got); err != nil || string(got) != string(packet(99, 0x7, []byte("odd"))) {
		t.Errorf("sent % x (%v)", got, err)
	}
	sendFiles(t, peer, packet(98, 0x1, []byte("even")), 2)
	r, flags, payload, fds, err := c.Receive()
	if err != nil || r != 98 || flags != 1 || string(payload) != "even" || len(fds) != 2 {
		t.Errorf("received %v %#x %q %v (%v)", r, flags, payload, fds, err)
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
}
