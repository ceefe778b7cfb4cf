package vhost

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const testTimeout = 10 * time.Second

// pair makes two ends of a stream: a wire, and the peer that may misbehave.
func pair(t testing.TB, timeout time.Duration) (*wire, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		if ends[i], err = unixConn(fd); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ends[i].Close() })
	}
	w := newWire(ends[0], timeout)
	t.Cleanup(w.fds.Close)
	return w, ends[1]
}

// packet is a message as bytes.
func packet(request Request, flags uint32, payload []byte) []byte {
	b := order.AppendUint32(nil, uint32(request))
	b = order.AppendUint32(b, flags)
	b = order.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// openFiles counts this process's files.
func openFiles(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs /proc: ", err)
	}
	return len(d)
}

// sendFiles writes b in one sendmsg with n pipe ends, and keeps none.
func sendFiles(t *testing.T, c *net.UnixConn, b []byte, n int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	fds := make([]int, n)
	for i := range fds {
		fds[i] = p[0]
	}
	if _, _, err := c.WriteMsgUnix(b, unix.UnixRights(fds...), nil); err != nil {
		t.Fatal(err)
	}
}

// eventually polls a condition that something else brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testTimeout); !ok(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen in %v: %s", testTimeout, what)
		}
	}
}

func TestWireReassemblesByteByByte(t *testing.T) {
	w, peer := pair(t, testTimeout)
	payload, _ := VringAddr{Index: 3, Desc: 0x1000, Used: 0x2000, Avail: 0x3000}.AppendBinary(nil)
	go func() {
		for _, b := range packet(SetVringAddr, flagVersion, payload) {
			peer.Write([]byte{b})
		}
	}()
	m, err := w.read()
	if err != nil {
		t.Fatal(err)
	}
	if Request(m.Request) != SetVringAddr || !bytes.Equal(m.Payload, payload) {
		t.Fatalf("got %v % x", Request(m.Request), m.Payload)
	}
}

func TestWireGivesCoalescedMessagesTheirOwnFiles(t *testing.T) {
	w, peer := pair(t, testTimeout)
	table, _ := MemTable{{}, {}}.AppendBinary(nil)
	kick, _ := VringFD{Index: 1}.AppendBinary(nil)
	sendFiles(t, peer, packet(SetMemTable, flagVersion, table), 2)
	sendFiles(t, peer, packet(SetVringKick, flagVersion, kick), 1)
	peer.Write(packet(GetFeatures, flagVersion, nil))

	for _, want := range []struct {
		request Request
		files   int
	}{{SetMemTable, 2}, {SetVringKick, 1}, {GetFeatures, 0}} {
		m, err := w.read()
		if err != nil {
			t.Fatal(err)
		}
		if Request(m.Request) != want.request || m.fds.Len() != want.files {
			t.Fatalf("got %v with %d files, want %v with %d", Request(m.Request), m.fds.Len(), want.request, want.files)
		}
	}
}

func TestWireTakesFilesThatComeWithThePayload(t *testing.T) {
	w, peer := pair(t, testTimeout)
	kick, _ := VringFD{Index: 1}.AppendBinary(nil)
	b := packet(SetVringKick, flagVersion, kick)
	peer.Write(b[:headerBytes+3])
	sendFiles(t, peer, b[headerBytes+3:], 1)
	m, err := w.read()
	if err != nil || m.fds.Len() != 1 {
		t.Fatalf("got %v, %v", m, err)
	}
	fd, err := m.fds.Take(0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("received file has flags %#x (%v), children would inherit it", flags, err)
	}
	if _, err := m.fds.Take(0); err == nil {
		t.Error("one file was taken twice")
	}
}

func TestWireClosesWhatNobodyTook(t *testing.T) {
	w, peer := pair(t, testTimeout)
	before := openFiles(t)
	table, _ := MemTable{{}, {}, {}}.AppendBinary(nil)
	sendFiles(t, peer, packet(SetMemTable, flagVersion, table), 3)
	peer.Write(packet(GetFeatures, flagVersion, nil))
	for range 2 {
		if _, err := w.read(); err != nil {
			t.Fatal(err)
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d files open, %d before", after, before)
	}
}

// Every message here costs the connection, and no file stays open.
func TestWireRefusesBadMessagesAndClosesTheirFiles(t *testing.T) {
	u64 := make([]byte, 8)
	huge := packet(SetFeatures, flagVersion, nil)
	order.PutUint32(huge[8:], 1<<31)
	for _, c := range []struct {
		name  string
		bytes []byte
		files int
	}{
		{"version 0", packet(SetFeatures, 0, u64), 1},
		{"version 2", packet(SetFeatures, 2, u64), 1},
		{"payload of 2 GiB", huge, 1},
		{"ten files", packet(SetFeatures, flagVersion, u64), 10},
		{"files cut off by the kernel", packet(SetFeatures, flagVersion, u64), 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, peer := pair(t, testTimeout)
			before := openFiles(t)
			sendFiles(t, peer, c.bytes, c.files)
			_, err := w.read()
			if pe := (*ProtocolError)(nil); !errors.As(err, &pe) {
				t.Errorf("got %v, want a *ProtocolError", err)
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d files open, %d before", after, before)
			}
		})
	}
}

// However few files got through: some did not.
func TestWireRefusesAControlMessageThatWasCutOff(t *testing.T) {
	w, _ := pair(t, testTimeout)
	if err := w.gather(nil, unix.MSG_CTRUNC); err == nil {
		t.Error("was taken")
	}
}

func TestWireDropsHalfAMessageInTimeAndWaitsForEverBetween(t *testing.T) {
	for _, n := range []int{1, headerBytes - 1, headerBytes, headerBytes + 1} {
		w, peer := pair(t, 20*time.Millisecond)
		before := openFiles(t)
		whole := packet(SetFeatures, flagVersion, make([]byte, 8))
		read := make(chan error, 2)
		go func() {
			for range 2 {
				_, err := w.read()
				read <- err
			}
		}()
		// Longer than the timeout nothing comes: that is no error.
		select {
		case err := <-read:
			t.Fatalf("gave up between messages: %v", err)
		case <-time.After(60 * time.Millisecond):
		}
		peer.Write(whole)
		if err := <-read; err != nil {
			t.Fatal(err)
		}
		sendFiles(t, peer, whole[:n], 1)
		if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes of a message: got %v, want a timeout", n, err)
		}
		if after := openFiles(t); after != before {
			t.Errorf("%d bytes of a message: %d files open, %d before", n, after, before)
		}
	}
}

func TestWireTellsTheEndFromACutMessage(t *testing.T) {
	whole := packet(SetFeatures, flagVersion, make([]byte, 8))
	for n := range whole {
		w, peer := pair(t, testTimeout)
		peer.Write(whole[:n])
		peer.Close()
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if _, err := w.read(); !errors.Is(err, want) {
			t.Errorf("end after %d bytes: got %v, want %v", n, err, want)
		}
	}
}

func TestWireReadEndsWhenTheConnectionIsClosed(t *testing.T) {
	w, _ := pair(t, testTimeout)
	got := make(chan error)
	go func() {
		_, err := w.read()
		got <- err
	}()
	w.c.Close()
	select {
	case err := <-got:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	case <-time.After(testTimeout):
		t.Fatal("still reading")
	}
}

func TestWireWritesThroughASmallSocketBuffer(t *testing.T) {
	w, peer := pair(t, testTimeout)
	if err := w.c.SetWriteBuffer(1); err != nil { // the kernel makes it its minimum
		t.Fatal(err)
	}
	payload := bytes.Repeat([]byte{1, 2, 3, 4}, maxPayload/4)
	const messages = 50
	sent := make(chan error, 1)
	go func() {
		for range messages {
			if err := w.write(uint32(SetConfig), flagVersion, payload); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	other := newWire(peer, testTimeout)
	for range messages {
		m, err := other.read()
		if err != nil || !bytes.Equal(m.Payload, payload) {
			t.Fatalf("message was changed on the way (%v)", err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

func TestWireWriteGivesUpOnAPeerThatDoesNotRead(t *testing.T) {
	w, _ := pair(t, 20*time.Millisecond)
	payload := make([]byte, maxPayload)
	for range 10_000 {
		if err := w.write(uint32(SetConfig), flagVersion, payload); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v, want a timeout", err)
			}
			return
		}
	}
	t.Error("40 MB were taken by a peer that never read")
}
