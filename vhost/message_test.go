package vhost

import (
	"bytes"
	"encoding"
	"errors"
	"io"
	"net"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// layout is a payload that goes both ways.
type layout interface {
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

// layouts are all of them, with a value that has no two fields alike.
func layouts() []layout {
	u := U64(0x0102030405060708)
	return []layout{
		&u,
		&VringState{1, 256},
		&VringAddr{1, VringLog, 0x10, 0x20, 0x30, 0x40},
		&MemTable{{1, 2, 3, 4}, {5, 6, 7, 8}},
		&SingleRegion{1, 2, 3, 4},
		&LogBase{1, 2},
		&VringFD{7, true},
		&Config{4, 3, ConfigLive, []byte("abc")},
	}
}

func TestLayoutsAreTheSpecificationsBytes(t *testing.T) {
	if order.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the expected bytes are little-endian")
	}
	// Captured from QEMU: used comes before avail, padding before a region.
	for _, c := range []struct {
		v    encoding.BinaryAppender
		want string
	}{
		{VringAddr{Index: 1, Flags: 1, Desc: 2, Used: 3, Avail: 4, Log: 5},
			"\x01\x00\x00\x00\x01\x00\x00\x00" + "\x02\x00\x00\x00\x00\x00\x00\x00" + "\x03\x00\x00\x00\x00\x00\x00\x00" +
				"\x04\x00\x00\x00\x00\x00\x00\x00" + "\x05\x00\x00\x00\x00\x00\x00\x00"},
		{SingleRegion{GPA: 1, Size: 2, UVA: 3, Offset: 4},
			"\x00\x00\x00\x00\x00\x00\x00\x00" + "\x01\x00\x00\x00\x00\x00\x00\x00" + "\x02\x00\x00\x00\x00\x00\x00\x00" +
				"\x03\x00\x00\x00\x00\x00\x00\x00" + "\x04\x00\x00\x00\x00\x00\x00\x00"},
		{VringFD{Index: 2, NoFD: true}, "\x02\x01\x00\x00\x00\x00\x00\x00"},
	} {
		if got, err := c.v.AppendBinary(nil); err != nil || string(got) != c.want {
			t.Errorf("%T: got % x (%v), want % x", c.v, got, err, c.want)
		}
	}
}

func TestLayoutsComeBackAsTheyWent(t *testing.T) {
	for _, v := range layouts() {
		b, err := v.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		back := reflect.New(reflect.TypeOf(v).Elem()).Interface().(layout)
		if err := back.UnmarshalBinary(b); err != nil {
			t.Errorf("%T: %v", v, err)
		}
		if d := cmp.Diff(v, back); d != "" {
			t.Errorf("%T changed: %s", v, d)
		}
	}
}

func TestLayoutsRefuseEveryOtherSize(t *testing.T) {
	for _, v := range layouts() {
		whole, _ := v.AppendBinary(nil)
		for n := range len(whole) + 40 {
			b := append(bytes.Clone(whole), make([]byte, 40)...)[:n]
			if err := v.UnmarshalBinary(b); (err == nil) != (n == len(whole)) {
				t.Errorf("%T of %d bytes, its size is %d: %v", v, n, len(whole), err)
			}
		}
	}
}

func TestIOTLBComesWithAndWithoutPadding(t *testing.T) {
	b := make([]byte, 33)
	b[24], b[25] = 3, 2
	for n := range b {
		var m IOTLB
		if err := m.UnmarshalBinary(b[:n]); (err == nil) != (n == 26 || n == 32) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestInflightComesWithAndWithoutPadding(t *testing.T) {
	want := Inflight{Size: 1 << 33, Offset: 4096, Queues: 3, QueueSize: 256}
	whole := bytesOf(want)
	if len(whole) != 24 {
		t.Errorf("sent in %d bytes, QEMU's structure has 24", len(whole))
	}
	for n := range append(whole, 0) {
		var i Inflight
		err := i.UnmarshalBinary(append(whole, 0)[:n])
		if (err == nil) != (n == 20 || n == 24) || err == nil && i != want {
			t.Errorf("%d bytes: %+v, %v", n, i, err)
		}
	}
}

func TestEncodersRefuseWhatNoMessageCarries(t *testing.T) {
	for _, v := range []encoding.BinaryAppender{
		MemTable{}, make(MemTable, maxRegions+1),
		Config{Size: maxConfig + 1, Data: make([]byte, maxConfig+1)}, Config{Size: 1},
	} {
		if _, err := v.AppendBinary(nil); err == nil {
			t.Errorf("%T %v was encoded", v, v)
		}
	}
}

func TestCheckHoldsMessagesAgainstTheTable(t *testing.T) {
	for _, c := range []struct {
		request     Request
		size, files int
		ok          bool
	}{
		{GetFeatures, 0, 0, true},
		{GetFeatures, 8, 0, false},
		{SetMemTable, 40, 1, true},
		{SetMemTable, 41, 1, false},
		{SetMemTable, 8 + 9*32, 8, false},
		{SetMemTable, 72, 0, false},
		{AddMemReg, 40, 2, false},
		{RemMemReg, 40, 1, true}, // a stray file is closed, the message stands
		{SetInflightFD, 20, 1, true},
		{SetInflightFD, 24, 1, true},
		{SetInflightFD, 22, 1, false},
		{IOTLBMsg, 32, 0, true},
		{GetConfig, 12 + 256, 0, true},
		{GetConfig, 12 + 257, 0, false},
		{0, 0, 0, false},
		{1 << 31, 0, 0, false},
	} {
		m := &message{Request: uint32(c.request), Payload: make([]byte, c.size), fds: &fdSet{fds: make([]int, c.files)}}
		if err := c.request.check(m); (err == nil) != c.ok {
			t.Errorf("%v with %d bytes and %d files: %v", c.request, c.size, c.files, err)
		}
	}
}

// Bytes of any kind must neither panic nor leave a file open, and what was read
// must be what a writer of that message would have sent.
func FuzzMessage(f *testing.F) {
	for _, v := range layouts() {
		p, _ := v.AppendBinary(nil)
		f.Add(packet(SetVringKick, flagVersion, p), uint8(1))
	}
	f.Add(append(packet(GetFeatures, flagVersion, nil), packet(GetFeatures, flagVersion|flagNeedReply, nil)...), uint8(9))
	f.Add(packet(SetFeatures, 3, nil), uint8(12))
	f.Fuzz(func(t *testing.T, b []byte, files uint8) {
		if len(b) == 0 || len(b) > 64<<10 {
			return
		}
		w, peer := pair(t, testTimeout)
		before := openFiles(t)
		sendFiles(t, peer, b, int(files%16))
		peer.CloseWrite()
		var back []byte
		for {
			m, err := w.read()
			if err != nil {
				checkStreamEnd(t, err)
				break
			}
			_ = Request(m.Request).check(m)
			back = append(back, packet(Request(m.Request), m.Flags, m.Payload)...)
		}
		if !bytes.HasPrefix(b, back) {
			t.Errorf("read % x from % x", back, b)
		}
		if after := openFiles(t); after != before {
			t.Errorf("%d files open, %d before", after, before)
		}
	})
}

func checkStreamEnd(t *testing.T, err error) {
	t.Helper()
	var pe *ProtocolError
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &pe) {
		t.Errorf("unexpected error %v", err)
	}
}

// Whatever decodes must encode to the bytes it came from, save for bits that
// have no meaning.
func FuzzPayloads(f *testing.F) {
	for i, v := range layouts() {
		p, _ := v.AppendBinary(nil)
		f.Add(uint8(i), p)
	}
	f.Fuzz(func(t *testing.T, kind uint8, p []byte) {
		var tlb IOTLB
		_ = tlb.UnmarshalBinary(p)
		all := layouts()
		v := all[int(kind)%len(all)]
		if v.UnmarshalBinary(p) != nil {
			return
		}
		once, err := v.AppendBinary(nil)
		if err != nil || len(once) != len(p) {
			t.Fatalf("%T %+v does not encode as it decoded: %v", v, v, err)
		}
		if err := v.UnmarshalBinary(once); err != nil {
			t.Fatal(err)
		}
		if twice, _ := v.AppendBinary(nil); !bytes.Equal(once, twice) {
			t.Fatalf("%T: % x became % x", v, once, twice)
		}
	})
}

func TestReceivedFilesOfTheWrongKindAreNamed(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	var kind *NotEventfdError
	if err := checkEventfd(p[1]); !errors.As(err, &kind) || kind.Got[:5] != "pipe:" {
		t.Errorf("a pipe: %v", err)
	}
	fd, err := newEventfd()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := checkEventfd(fd); err != nil {
		t.Errorf("an eventfd: %v", err)
	}
}

func TestUnixConnRefusesOtherSocketsAndClosesThem(t *testing.T) {
	before := openFiles(t)
	for _, kind := range []int{unix.SOCK_DGRAM, unix.SOCK_SEQPACKET} {
		fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		var c *net.UnixConn
		if c, err = unixConn(fds[0]); err == nil {
			t.Errorf("socket of type %d was taken", kind)
			c.Close()
		}
		unix.Close(fds[1])
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d files open, %d before", after, before)
	}
}
