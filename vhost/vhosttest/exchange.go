package vhosttest

import (
	"encoding"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost"
)

// Exchange is all that a front-end says until a ring runs, to be cut off at any
// byte.
type Exchange struct{ steps []step }

// step is one message as it travels; its file comes with the first byte.
type step struct {
	bytes []byte
	file  int // -1: none
}

// NewExchange makes the messages and their files, which are closed with tb.
func NewExchange(tb testing.TB) *Exchange {
	tb.Helper()
	e, files := new(Exchange), newFiles(tb)
	region := vhost.MemRegion{GPA: guestBase, UVA: guestBase + userShift, Size: page}
	say := func(r vhost.Request, file int, p encoding.BinaryAppender) { e.say(tb, r, file, p) }
	say(vhost.GetFeatures, -1, nil)
	say(vhost.GetProtocolFeatures, -1, nil)
	say(vhost.SetProtocolFeatures, -1, vhost.U64(vhost.ProtocolReplyAck|vhost.ProtocolMemSlots|vhost.ProtocolLogSHMFD|vhost.ProtocolBackendReq))
	say(vhost.SetOwner, -1, nil)
	say(vhost.SetBackendReqFD, files.socket, nil)
	say(vhost.SetFeatures, -1, vhost.U64(1<<32|1<<30))
	say(vhost.SetVringCall, files.event, vhost.VringFD{})
	say(vhost.SetVringErr, files.event, vhost.VringFD{})
	say(vhost.SetMemTable, files.memory, vhost.MemTable{region})
	region.GPA, region.UVA = region.GPA+page, region.UVA+page
	say(vhost.AddMemReg, files.memory, vhost.SingleRegion(region))
	say(vhost.SetLogBase, files.memory, vhost.LogBase{Size: page})
	say(vhost.SetVringNum, -1, vhost.VringState{Num: 16})
	say(vhost.SetVringBase, -1, vhost.VringState{})
	say(vhost.SetVringAddr, -1, vhost.VringAddr{Desc: region.UVA, Avail: region.UVA + 1024, Used: region.UVA + 2048})
	say(vhost.SetVringKick, files.event, vhost.VringFD{})
	say(vhost.SetVringEnable, -1, vhost.VringState{Num: 1})
	return e
}

// say adds a message.
func (e *Exchange) say(tb testing.TB, r vhost.Request, file int, p encoding.BinaryAppender) {
	tb.Helper()
	var payload []byte
	if p != nil {
		var err error
		if payload, err = p.AppendBinary(nil); err != nil {
			tb.Fatal(err)
		}
	}
	b := binary.NativeEndian.AppendUint32(nil, uint32(r))
	b = binary.NativeEndian.AppendUint32(b, 1|8) // version 1, need_reply
	b = binary.NativeEndian.AppendUint32(b, uint32(len(payload)))
	e.steps = append(e.steps, step{append(b, payload...), file})
}

// Len is its length in bytes.
func (e *Exchange) Len() (n int) {
	for _, s := range e.steps {
		n += len(s.bytes)
	}
	return n
}

// Cut connects to the back-end at path, says the first n bytes and no more, and
// waits until the back-end has hung up.
func (e *Exchange) Cut(tb testing.TB, path string, n int) {
	tb.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path})
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	for _, s := range e.steps {
		b, oob := s.bytes[:min(n, len(s.bytes))], []byte(nil)
		if n -= len(b); len(b) == 0 {
			break
		}
		if s.file >= 0 {
			oob = unix.UnixRights(s.file)
		}
		if _, _, err := c.WriteMsgUnix(b, oob, nil); err != nil {
			tb.Fatal(err)
		}
	}
	if err := errors.Join(c.CloseWrite(), c.SetReadDeadline(time.Now().Add(Timeout))); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, unix.ECONNRESET) {
		tb.Fatalf("the back-end did not hang up: %v", err)
	}
}

// files are one of each kind.
type files struct{ memory, event, socket int }

func newFiles(tb testing.TB) (f files) {
	tb.Helper()
	var errs [4]error
	f.memory, errs[0] = unix.MemfdCreate("exchange", unix.MFD_CLOEXEC)
	errs[1] = unix.Ftruncate(f.memory, page)
	f.event, errs[2] = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	var pair [2]int
	pair, errs[3] = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err := errors.Join(errs[:]...); err != nil {
		tb.Fatal(err)
	}
	f.socket = pair[0]
	tb.Cleanup(func() {
		for _, fd := range []int{f.memory, f.event, pair[0], pair[1]} {
			_ = unix.Close(fd)
		}
	})
	return f
}
