package memfd

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// dialled connects to the primary without a secondary behind.
func (n *nation) dialled(t testing.TB) *conn {
	t.Helper()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: n.path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return newConn(c, true)
}

// greet says hello, as a secondary does, and takes whatever memory there is.
func (n *nation) greet(t testing.TB, c *conn) {
	t.Helper()
	t.Cleanup(n.bury)
	say(t, c, sayHello, 0, func(e *encoder) {
		e.u64(wireMagic)
		e.text("handmade")
		e.flag(true)
	})
	if m := listenFor(t, c); m.verb != sayWindows {
		t.Fatalf("it answers %+v", m)
	}
	say(t, c, sayAck, 1, func(e *encoder) { encodeError(e, nil) })
	m := listenFor(t, c)
	for ; m.verb == sayArrive; m = listenFor(t, c) {
		say(t, c, sayAck, m.seq, func(e *encoder) { encodeError(e, nil) })
	}
	if m.verb != sayAttached {
		t.Fatalf("it answers %+v", m)
	}
}

func say(t testing.TB, c *conn, v verb, seq uint32, body func(*encoder)) {
	t.Helper()
	if err := c.write(time.Now().Add(soon), v, seq, body); err != nil {
		t.Fatal(err)
	}
}

func listenFor(t testing.TB, c *conn) message {
	t.Helper()
	m, err := c.read(time.Now().Add(soon))
	if err != nil {
		t.Fatal(err)
	}
	m.dismiss()
	return m
}

// bury ends the secondaries of this process, which are none: its end cannot be
// waited for.
func (n *nation) bury() {
	for _, q := range n.handmade() {
		q.drop(io.EOF, 0)
		q.release()
	}
}

func (n *nation) handmade() (all []*peer) {
	n.p.mu.Lock()
	defer n.p.mu.Unlock()
	for q := range n.p.peers {
		if q.pid == os.Getpid() {
			all = append(all, q)
		}
	}
	return all
}

func TestAMessageThatIsWrongCostsItsSenderTheConnectionAndNobodyElse(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	other := n.attached("other")
	text := strings.Repeat("x", maxText+1)
	for name, wrong := range map[string]func(c *conn){
		"unknown":       func(c *conn) { say(t, c, 99, 0, nil) },
		"for primaries": func(c *conn) { say(t, c, sayAttached, 0, nil) },
		"short":         func(c *conn) { say(t, c, sayAlloc, 1, func(e *encoder) { e.u64(1) }) },
		"long":          func(c *conn) { say(t, c, sayFree, 1, func(e *encoder) { new(wish).encode(e); e.u16(0) }) },
		"large": func(c *conn) {
			say(t, c, sayFind, 1, func(e *encoder) { e.b = append(e.b, make([]byte, maxMessage)...) })
		},
		"a long text": func(c *conn) {
			say(t, c, sayFind, 1, func(e *encoder) { e.u16(uint16(len(text))); e.b = append(e.b, text...) })
		},
		"answers":        func(c *conn) { answers(t, c); answers(t, c) },
		"no header":      func(c *conn) { _, _ = c.c.Write([]byte{1}) },
		"version":        func(c *conn) { _, _ = c.c.Write([]byte{9, 0, byte(sayAck), 0, 0, 0, 0, 0}) },
		"files":          func(c *conn) { _ = c.write(time.Now().Add(soon), sayFind, 1, new(wish).encode, 0) },
		"not an option":  func(c *conn) { say(t, c, sayZone, 1, func(e *encoder) { new(wish).encode(e); e.b[len(e.b)-1] = 7 }) },
		"another number": func(c *conn) { say(t, c, sayAck, 1, func(e *encoder) { e.u16(500); e.text("") }) },
	} {
		t.Run(name, func(t *testing.T) {
			c := n.dialled(t)
			n.greet(t, c)
			q := n.handmade()[0]
			wrong(c)
			<-q.ended
			if _, ok := errors.AsType[*wireError](q.why()); !ok {
				t.Errorf("it was dropped for %v", q.why())
			}
			if m, err := c.read(time.Now().Add(soon)); !errors.Is(err, io.EOF) {
				t.Errorf("it hears %+v, %v", m, err)
			}
			n.bury()
			n.await("it stays", func(all []SecondaryInfo) bool { return len(all) == 1 })
			other.does("work 1")
		})
	}
	other.does("check")
	other.does("close")
}

// answers what was not asked. One such waits to be compared with a question.
func answers(t testing.TB, c *conn) {
	t.Helper()
	say(t, c, sayAck, 7, func(e *encoder) { encodeError(e, nil) })
}

func TestASecondaryOfAnotherVersionIsToldSo(t *testing.T) {
	n := served(t, small(), PrimaryOptions{Secondaries: 1})
	for first, want := range map[string]string{
		"\x09\x00\x01\x00\x00\x00\x00\x00": "version 9, where this one speaks version 2",
		"\x02\x00\x01\x00\x00\x00\x00\x00": "something else than a greeting",
		"?":                                "without a header",
	} {
		c := n.dialled(t)
		if _, err := c.c.Write([]byte(first)); err != nil {
			t.Fatal(err)
		}
		m := listenFor(t, c)
		if err := decodeError(&m.body); m.verb != sayRefused || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: it hears %d: %v, want %s", first, m.verb, err, want)
		}
	}
	c := n.attached("c") // who was refused does not count
	if got := n.spawn("d").reply(); !strings.Contains(got, "PrimaryOptions.Secondaries") {
		t.Error("one too many hears", got)
	}
	c.does("close")
}

func TestOneSecondaryAsksForOneThingAtATime(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	c := n.dialled(t)
	n.greet(t, c)
	q := n.handmade()[0]
	ask := func(seq uint32) {
		say(t, c, sayAlloc, seq, (&wish{zone: ZoneOptions{Size: 1000}}).encode)
	}
	ask(1) // and does not take the memory that has to come for it
	if m := listenFor(t, c); m.verb != sayArrive {
		t.Fatalf("it hears %+v", m)
	}
	ask(2)
	<-q.ended
	n.bury()
	n.alone()
	if left := n.walked(); left != "" {
		t.Errorf("still mapped: %s", left)
	}
}

func TestWhoHasDetachedHoldsNothingFromTheMomentOn(t *testing.T) {
	n := served(t, small(), PrimaryOptions{})
	b := take(t, n.a, growth{owner: "b", size: 16 << 10, node: AnyNode})
	c := n.dialled(t)
	n.greet(t, c)
	q := n.handmade()[0]
	q.c.wmu.Lock() // ending the connection goes no further than here
	say(t, c, sayDetach, 0, nil)
	<-q.ended
	giveBack(t, n.a, b)
	q.c.wmu.Unlock()
	n.alone()
}

func FuzzWhatASecondarySays(f *testing.F) {
	o := small()
	o.Base, o.Name = testBase, "fuzz"
	a, err := New(o)
	if err != nil {
		f.Skip("another process fuzzes at the same address:", err)
	}
	n := &nation{a: a, path: f.TempDir() + "/s"}
	if n.p, err = a.ServeProcesses(n.path, PrimaryOptions{Deadline: 50 * time.Millisecond, Limit: 1 << 18}); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = errors.Join(n.p.Close(f.Context()), a.Close()) })
	for _, v := range []verb{sayAck, sayAlloc, sayFree, sayZone, sayFind, sayBring, sayTake, sayDetach} {
		e := encoder{}
		(&wish{name: "z", zone: ZoneOptions{Size: 100}}).encode(&e)
		f.Add(uint16(v), uint32(2), e.b, uint16(sayAck), []byte{0, 0})
	}
	f.Fuzz(func(t *testing.T, v uint16, seq uint32, body []byte, next uint16, rest []byte) {
		c := n.dialled(t)
		n.greet(t, c)
		q := n.handmade()[0]
		for v, body := range map[uint16][]byte{v: body, next: rest} {
			_ = c.write(time.Now().Add(soon), verb(v), seq, func(e *encoder) { e.b = append(e.b, body...) })
		}
		c.close()
		<-q.ended
		n.bury()
		for len(n.p.Secondaries()) > 0 {
			time.Sleep(100 * time.Microsecond)
		}
		for _, z := range a.Zones() {
			if err := z.Free(); err != nil {
				t.Error(err)
			}
		}
		if heaps := a.Heaps(); len(heaps) > 0 {
			t.Errorf("heaps that stay: %v", heaps[0].Name())
		}
	})
}

func FuzzWhatAPrimarySays(f *testing.F) {
	p := &plot{name: "p", deadline: time.Second, spaces: []space{{0x200000000000, 1 << 20, 1 << 14, 4096, -1}}}
	e := encoder{}
	p.encode(&e)
	r := encoder{}
	encodeRuns(&r, nil, []run{{0, 0, true, 3, 2, 0x1000, 3 << 14}, {0, 0, false, 7, 1, 0x100000, 7 << 14}})
	f.Add(e.b, uint16(sayArrive), r.b, uint16(sayLeave), r.b)
	f.Add(e.b, uint16(sayArrive), r.b, uint16(sayAttached), []byte{})
	x := encoder{}
	encodeRuns(&x, []space{{0x210000000000, 1 << 14, 1 << 12, 4096, -1}, {0x220000000000, 3 << 12, 3 << 12, 4096, -1}},
		[]run{{1, 0, true, 1, 2, 0x1000, 1 << 13}, {2, 0, false, 0, 1, memtable.NoIOVA, 0}, {0, 0, true, 1, 1, 0x10000, 0}})
	f.Add(e.b, uint16(sayArrive), x.b, uint16(sayLeave), x.b)
	f.Add(e.b, uint16(sayArrive), x.b, uint16(sayArrive), r.b)
	f.Add(e.b, uint16(sayRefused), []byte{1, 0, 0, 0}, uint16(sayResult), r.b)
	f.Fuzz(func(t *testing.T, windows []byte, v uint16, body []byte, next uint16, rest []byte) {
		before := countFiles(t)
		primary, s := handmadePair(t)
		fd, err := unix.MemfdCreate("fuzz", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		until := time.Now().Add(soon)
		raw := func(b []byte) func(*encoder) { return func(e *encoder) { e.b = append(e.b, b...) } }
		_ = primary.write(until, sayWindows, 1, raw(windows))
		_ = primary.write(until, verb(v), 2, raw(body), fd)
		_ = primary.write(until, verb(next), 3, raw(rest))
		primary.hush()
		if s.begin() == nil {
			s.read()
		}
		if err := s.unmapAll(); err != nil {
			t.Error(err)
		}
		s.c.close()
		primary.close()
		_ = unix.Close(fd)
		if after := countFiles(t); after != before {
			t.Errorf("%d files are open, %d before", after, before)
		}
	})
}

// handmadePair gives a secondary, and the other end of its connection.
func handmadePair(t *testing.T) (primary *conn, s *Secondary) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var both [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "")
		c, err := net.FileConn(file)
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		both[i] = c.(*net.UnixConn)
	}
	return newConn(both[0], false), newSecondary(linux{}, both[1], AttachOptions{Name: "s"})
}
