package vhost

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// recorded is a device of two rings that keeps a record of what is in flight.
func recorded() *filler {
	spec := twoRings
	spec.Inflight = true
	return newFiller(spec)
}

// ownRecord makes a record's file as a peer may that wants to take it away. It
// counts as guest memory, for noLeaks.
func ownRecord(t *testing.T) (Inflight, int) {
	t.Helper()
	fd, err := unix.MemfdCreate("test-guest-record", unix.MFD_CLOEXEC)
	ok(t, err)
	t.Cleanup(func() { closeFD(fd) })
	i := Inflight{Size: 4096, Queues: 2, QueueSize: ringSize}
	ok(t, unix.Ftruncate(fd, int64(i.Size)))
	return i, fd
}

func TestARecordThatIsTruncatedCostsTheConnectionOnly(t *testing.T) {
	noLeaks(t)
	s := &Server{Device: recorded()}
	t.Run("while its ring runs", func(t *testing.T) {
		g := newGuest(t, 0x10000)
		c, ended := dialogue(t, s)
		i, fd := ownRecord(t)
		ok(t, c.AddMemReg(g.region, g.fd))
		ok(t, c.SetInflightFD(i, fd))
		g.start(t, c, 0, 0)
		g.filled(t)
		ok(t, unix.Ftruncate(fd, 0))
		g.post()
		if _, is := errors.AsType[*memtable.FaultError](dies(t, ended)); !is {
			t.Error("the session does not tell that memory vanished")
		}
	})
	t.Run("before it starts", func(t *testing.T) {
		g := newGuest(t, 0x10000)
		c, ended := dialogue(t, s)
		i, fd := ownRecord(t)
		ok(t, c.AddMemReg(g.region, g.fd))
		ok(t, c.SetInflightFD(i, fd))
		ok(t, unix.Ftruncate(fd, 0))
		ok(t, c.SetVringNum(0, ringSize))
		ok(t, c.SetVringAddr(g.addr(0)))
		_ = c.SetVringKick(0, g.kick)
		if _, is := errors.AsType[*memtable.FaultError](dies(t, ended)); !is {
			t.Error("the session does not tell that memory vanished")
		}
	})
	_, g, _ := running(t, s)
	g.filled(t)
}

// The file that GET_INFLIGHT_FD brings cannot be taken away, and none stays here.
func TestARecordOfOursIsSealedAndNotKept(t *testing.T) {
	noLeaks(t)
	c, _ := dialogue(t, &Server{Device: recorded()})
	files := openFiles(t)
	for range 20 {
		i, fd, err := c.GetInflightFD(2, ringSize)
		ok(t, err)
		for _, size := range []int64{0, int64(i.Size) - 1, 1 << 40} {
			if err := unix.Ftruncate(fd, size); !errors.Is(err, unix.EPERM) {
				t.Errorf("it can be made %d bytes long: %v", size, err)
			}
		}
		ok(t, c.SetInflightFD(i, fd))
		closeFD(fd)
	}
	if n := openFiles(t); n != files {
		t.Errorf("%d files are open, %d were before", n, files)
	}
}

// Each record that comes takes the place of the one before, and the last goes
// with the session.
func TestARecordIsUnmappedWhenAnotherComes(t *testing.T) {
	noLeaks(t)
	c, _ := dialogue(t, &Server{Device: recorded()})
	before := mapped(t)
	for range 5 {
		i, fd := ownRecord(t)
		ok(t, c.SetInflightFD(i, fd))
		if n := mapped(t) - before; n != 1 {
			t.Errorf("%d records are mapped", n)
		}
	}
	ok(t, c.ResetDevice())
	if n := mapped(t) - before; n != 0 {
		t.Errorf("%d records are mapped after RESET_DEVICE", n)
	}
	i, fd := ownRecord(t)
	ok(t, c.SetInflightFD(i, fd))
}
