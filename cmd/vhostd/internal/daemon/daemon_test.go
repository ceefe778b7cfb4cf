package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/config"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/vhost/vhosttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// options are those of ports with sockets in dir.
func options(t *testing.T, dir string, nets ...string) Options {
	t.Helper()
	o := Options{Control: config.Control{Socket: filepath.Join(dir, "control"), Perm: 0o600}, Log: slog.New(slog.DiscardHandler)}
	for _, s := range nets {
		n, err := config.ParseNet(strings.ReplaceAll(s, "DIR", dir))
		if err != nil {
			t.Fatal(err)
		}
		o.Nets = append(o.Nets, n)
	}
	if err := config.Check(o.Nets, o.Blks, o.Control.Socket); err != nil {
		t.Fatal(err)
	}
	return o
}

// start runs a daemon until the test ends, and sees that it cleans up.
func start(t *testing.T, nets ...string) (*Daemon, string) {
	t.Helper()
	dir := t.TempDir()
	d, err := Open(options(t, dir, nets...))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("files are left behind: %v", left)
		}
	})
	return d, dir
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// until polls a condition; the test fails when it does not come true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(vhosttest.Timeout); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in %v", what, vhosttest.Timeout)
		}
	}
}

var (
	macA  = [6]byte{0x52, 0x54, 0, 0, 0, 1}
	macB  = [6]byte{0x52, 0x54, 0, 0, 0, 2}
	every = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

func TestFramesShowUpInEveryAnswer(t *testing.T) {
	d, dir := start(t, "a=DIR/a", "b=DIR/b,queues=2", "c=DIR/c,group=other")
	c := control.NewClient(filepath.Join(dir, "control"))
	a := vhosttest.Plug(t, filepath.Join(dir, "a"), vhosttest.Options{})
	b := vhosttest.Plug(t, filepath.Join(dir, "b"), vhosttest.Options{})
	until(t, "both ports run", func() bool {
		return !slices.ContainsFunc(d.Ports("")[:2], func(p control.Port) bool { return p.State != control.Running })
	})
	a.Send(vhosttest.Frame(every, macA, 60, 1))
	if f := b.Recv(vhosttest.Timeout); len(f) != 60 {
		t.Fatalf("b got %d bytes", len(f))
	}
	b.Send(vhosttest.Frame(macA, macB, 100, 1))
	if f := a.Recv(vhosttest.Timeout); len(f) != 100 {
		t.Fatalf("a got %d bytes", len(f))
	}

	macs, err := control.Get[control.MAC](t.Context(), c, "mac", "a")
	if err != nil || len(macs.Items) != 1 || macs.Items[0].MAC != "52:54:00:00:00:01" || macs.Items[0].Group != "default" {
		t.Errorf("addresses at a: %+v, %v", macs, err)
	}
	until(t, "the frames are counted", func() bool {
		s := d.Stats("")
		return s[0].InFrames == 1 && s[0].InBytes == 60 && s[0].OutFrames == 1 && s[0].OutBytes == 100 &&
			s[1].InFrames == 1 && s[1].OutFrames == 1 && s[2].InFrames == 0 && len(s[1].Pairs) == 2
	})
	mem, err := control.Get[control.Memory](t.Context(), c, "mem", "")
	if err != nil || len(mem.Items) != 2 {
		t.Fatalf("memory is told of %d ports: %v", len(mem.Items), err)
	}
	if m := mem.Items[0]; m.Size != a.Region.Size || m.Resident == 0 || m.Resident > m.Size || m.ByGuest.Kind == "" ||
		uint64(m.Regions[0].Guest) != uint64(a.Region.GPA) || uint64(m.Regions[0].Peer) != uint64(a.Region.UVA) {
		t.Errorf("memory of a is told as %+v", m)
	}
	queues, err := control.Get[control.Queues](t.Context(), c, "queues", "a")
	if err != nil || len(queues.Items) != 1 {
		t.Fatalf("queues: %v", err)
	}
	q := queues.Items[0]
	if len(q.Rings) != 2 || !slices.Contains(q.Features.Names, "version_1") || len(q.Protocol.Names) == 0 {
		t.Fatalf("queues of a are told as %+v", q)
	}
	if r := q.Rings[1]; r.Name != "transmitq1" || r.Chains != 1 || r.LastAvail != 1 || r.UsedIdx != 1 || r.KickFD < 0 {
		t.Errorf("a's transmit queue is told as %+v", r)
	}
	if m := d.Messages("a"); len(m) != 1 || len(m[0].Messages) == 0 {
		t.Errorf("a's messages are told as %+v", m)
	}
}

func TestPortThatWasLeftListensAgainAndRemembers(t *testing.T) {
	d, dir := start(t, "a=DIR/a,mtu=9000")
	if p := d.Ports("a")[0]; p.State != control.Listening || p.Connects != 0 || p.MTU != 9000 {
		t.Errorf("before: %+v", p)
	}
	for n := range uint64(2) {
		g := vhosttest.Plug(t, filepath.Join(dir, "a"), vhosttest.Options{})
		until(t, "the port runs", func() bool { return d.Ports("a")[0].State == control.Running })
		if p := d.Ports("a")[0]; p.Connects != n+1 || !strings.Contains(p.Peer, "pid") || p.Features.Bits == 0 {
			t.Errorf("while a guest is there: %+v", p)
		}
		g.Unplug()
		until(t, "the port listens again", func() bool { return d.Ports("a")[0].State == control.Listening })
	}
	if mem := d.Memory(""); len(mem) != 0 {
		t.Errorf("memory of a guest that left is told: %+v", mem)
	}
}

func TestAnErrorOfAFrontEndIsShownAtItsPort(t *testing.T) {
	d, dir := start(t, "a=DIR/a", "b=DIR/b")
	c, err := net.Dial("unix", filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// No version of the protocol has such a header.
	if _, err := c.Write(bytes.Repeat([]byte{0xff}, 12)); err != nil {
		t.Fatal(err)
	}
	until(t, "the error is shown", func() bool { return d.Ports("a")[0].LastError != nil })
	if p := d.Ports("b")[0]; p.LastError != nil {
		t.Errorf("b has a's error: %+v", p.LastError)
	}
}

func TestClientPortDialsUntilSomeoneListens(t *testing.T) {
	d, dir := start(t, "a=DIR/a,mode=client")
	until(t, "the failure is shown", func() bool { return d.Ports("a")[0].LastError != nil })
	if p := d.Ports("a")[0]; p.State != control.Dialling || p.Role != "client" {
		t.Errorf("while nobody listens: %+v", p)
	}
	l, err := vhost.Listen(filepath.Join(dir, "a"), vhost.ListenOptions{UID: -1, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the port is connected", func() bool { return d.Ports("a")[0].State == control.Connected })
	c.Close()
	until(t, "the port dials again", func() bool { return d.Ports("a")[0].State == control.Dialling })
}

func TestOpenLeavesNothingBehindWhenOnePortCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	o := options(t, dir, "a=DIR/a", "b=DIR/none/b")
	_, err := Open(o)
	if err == nil || !strings.Contains(err.Error(), `port "b"`) || !strings.Contains(err.Error(), "none") {
		t.Errorf("error %v does not name the port and the folder", err)
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("files are left behind: %v", left)
	}
}

func TestSocketsBelongToWhomTheyAreMeantFor(t *testing.T) {
	_, dir := start(t, "a=DIR/a,perm=0600", "b=DIR/b")
	for name, want := range map[string]os.FileMode{"a": 0o600, "b": 0o660, "control": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("socket %s has mode %v, want %v: %v", name, info.Mode(), want, err)
		}
	}
	o := options(t, t.TempDir(), "c=DIR/c,owner=no-such-user-here")
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), `port "c": no user "no-such-user-here"`) {
		t.Errorf("error %v does not name the port and the user", err)
	}
}
