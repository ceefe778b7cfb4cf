package vhost

import (
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// configured is a filler with a config space of 8 bytes, the last 4 of them
// read-only.
type configured struct {
	*filler
	space [8]byte
}

func (d *configured) ReadConfig(p []byte, off int64) (int, error) {
	if off >= int64(len(d.space)) {
		return 0, io.EOF
	}
	return copy(p, d.space[off:]), nil
}

func (d *configured) WriteConfig(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > 4 {
		return 0, errors.New("read-only")
	}
	return copy(d.space[off:], p), nil
}

func newConfigured() *configured {
	return &configured{newFiller(twoRings), [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}
}

func TestConfigIsReadToTheSizeThatWasAskedFor(t *testing.T) {
	noLeaks(t)
	c, _ := dialogue(t, &Server{Device: newConfigured()})
	p, err := c.GetConfig(6, 5)
	ok(t, err)
	if string(p) != "\x07\x08\x00\x00\x00" {
		t.Errorf("read %x", p)
	}
}

func TestConfigReadOnlyBytesAreForMigrationOnly(t *testing.T) {
	noLeaks(t)
	c, _ := dialogue(t, &Server{Device: newConfigured()})
	ok(t, c.SetConfig(0, []byte{9}, false))
	refusedBy(t, c, c.SetConfig(4, []byte{9}, false))
	ok(t, c.SetConfig(4, []byte{9}, true))
	p, err := c.GetConfig(0, 8)
	ok(t, err)
	if string(p) != "\x09\x02\x03\x04\x05\x06\x07\x08" {
		t.Errorf("the space is %x", p)
	}
}

// change reads CONFIG_CHANGE_MSG from the front-end's end of the channel.
func change(t *testing.T, w *wire) {
	t.Helper()
	m, err := w.read()
	ok(t, err)
	if m.Request != uint32(BackendConfigChange) || m.Flags != flagVersion|flagNeedReply || len(m.Payload) != 0 {
		t.Fatalf("message %d, flags %#x, %d bytes", m.Request, m.Flags, len(m.Payload))
	}
}

func answerChange(t *testing.T, w *wire) {
	t.Helper()
	ok(t, w.write(uint32(BackendConfigChange), flagVersion|flagReply, bytesOf(U64(0))))
}

// QEMU reads the config space over the main socket before it answers over the
// channel.
func TestConfigChangeIsToldWhileTheMainSocketIsServed(t *testing.T) {
	noLeaks(t)
	device := newConfigured()
	c, _, _ := running(t, &Server{Device: device})
	s := <-device.opened
	if err := s.NotifyConfig(); !errors.Is(err, ErrNoChannel) {
		t.Errorf("without a channel: %v", err)
	}
	w := openChannel(t, c)
	ok(t, s.NotifyConfig())
	change(t, w)
	ok(t, s.NotifyConfig()) // both while the first is not answered:
	ok(t, s.NotifyConfig()) // told once
	if _, err := c.GetConfig(0, 8); err != nil {
		t.Fatal(err)
	}
	answerChange(t, w)
	change(t, w)
	answerChange(t, w)
	lives(t, c)
}

// vhost-user, "Suspended device state": no message while all rings are stopped.
func TestConfigChangeWaitsForARing(t *testing.T) {
	noLeaks(t)
	device := newConfigured()
	c, g, _ := running(t, &Server{Device: device})
	s := <-device.opened
	w := openChannel(t, c)
	wantBase(t, c, 0, 0)
	ok(t, s.NotifyConfig())
	lives(t, c)
	if pollIn(fdOf(t, w.c)) != 0 {
		t.Fatal("a suspended device spoke")
	}
	g.start(t, c, 0, 0)
	change(t, w)
	answerChange(t, w)
}

func TestChannelThatTheFrontEndClosesIsDoneWithout(t *testing.T) {
	noLeaks(t)
	device := newConfigured()
	c, g, _ := running(t, &Server{Device: device})
	s := <-device.opened
	openChannel(t, c).c.Close()
	ok(t, s.NotifyConfig())
	g.filled(t)
	w := openChannel(t, c) // and another
	ok(t, s.NotifyConfig())
	change(t, w)
	answerChange(t, w)
}

// A front-end keeps its copy of the socket that it gave: it can make it block
// and never answer. The session must end all the same.
func TestChannelThatBlocksHoldsNobodyUp(t *testing.T) {
	noLeaks(t)
	device := newConfigured()
	c, g, ended := running(t, &Server{Device: device})
	s := <-device.opened
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	ok(t, err)
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	ok(t, c.tell(SetBackendReqFD, nil, pair[1]))
	ok(t, unix.SetNonblock(pair[1], false))
	ok(t, s.NotifyConfig())
	g.filled(t)
	c.Close()
	dies(t, ended)
}

func openChannel(t *testing.T, c *Conn) *wire {
	t.Helper()
	conn, err := c.SetBackendReqFD()
	ok(t, err)
	t.Cleanup(func() { conn.Close() })
	return newWire(conn, testTimeout)
}

func fdOf(t *testing.T, c *net.UnixConn) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	ok(t, err)
	ok(t, raw.Control(func(fd uintptr) { n = int(fd) }))
	return n
}
