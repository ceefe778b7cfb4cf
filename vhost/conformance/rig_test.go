package conformance

import (
	"encoding"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// Flags of a message (vhost-user, "Header").
const (
	version   = 0x1
	isReply   = 0x4
	needReply = 0x8
)

// front is a front-end: a connection, and the memory it shares. It is used by
// one goroutine.
type front struct {
	*vhost.Conn
	sock     *net.UnixConn // under it, for what is no message
	t        testing.TB
	b        *backend
	mem      *memory
	features virtio.Features // agreed on
	seen     *vhost.Session  // by session
}

// options say what plug agrees on.
type options struct {
	features virtio.Features        // of those offered, beside VERSION_1 and PROTOCOL_FEATURES
	without  vhost.ProtocolFeatures // of those offered: not agreed on
}

// connect serves dev and connects to it. Nothing is said yet.
func connect(t testing.TB, dev vhost.Device) *front {
	t.Helper()
	return listen(t, dev).dial()
}

// plug connects to dev, agrees on features and shares memory for four rings.
// The rings are the test's to start.
func plug(t testing.TB, dev vhost.Device, o options) *front {
	t.Helper()
	f := connect(t, dev)
	f.agree(o)
	f.share()
	return f
}

// agree says what QEMU says when it connects, and SET_FEATURES.
func (f *front) agree(o options) {
	f.t.Helper()
	offered, err := f.GetFeatures()
	must(f.t, err)
	protocol, err := f.GetProtocolFeatures()
	must(f.t, err)
	must(f.t, f.SetProtocolFeatures(protocol&^o.without))
	must(f.t, f.SetOwner())
	f.features = offered & (o.features | virtio.FeatureVersion1 | virtio.FeatureProtocol)
	must(f.t, f.SetFeatures(f.features))
}

// share makes memory for four rings and adds it.
func (f *front) share() {
	f.t.Helper()
	const gpa = 0x4000_0000
	f.mem = newMemory(f.t, vhost.MemRegion{GPA: gpa, UVA: gpa + userShift, Size: 4 * ringBytes})
	must(f.t, f.AddMemReg(f.mem.MemRegion, f.mem.fd))
}

// userShift is how far the front-end's addresses are from the guest's, so that
// one is not taken for the other.
const userShift memtable.UVA = 0x7f00_0000_0000

// message is one message as it was read.
type message struct {
	request vhost.Request
	flags   uint32
	payload []byte
	fds     []int
}

// u64 is the number in a message of 8 bytes; the test fails if it has none.
func (m message) u64(t testing.TB) uint64 {
	t.Helper()
	if len(m.payload) != 8 {
		t.Fatalf("%v has %d bytes, want a number of 8", m.request, len(m.payload))
	}
	return binary.NativeEndian.Uint64(m.payload)
}

// payloadOf is the wire form of p; nil has none.
func payloadOf(p encoding.BinaryAppender) []byte {
	if p == nil {
		return nil
	}
	b, err := p.AppendBinary(nil)
	if err != nil {
		panic(err) // a test that wants a wrong payload writes its bytes
	}
	return b
}

// send sends a message as it is, version 1 with more flags, right or wrong.
func (f *front) send(r vhost.Request, flags uint32, payload []byte, fds ...int) {
	f.t.Helper()
	must(f.t, f.Send(r, version|flags, payload, fds...))
}

// recv reads the next message; its files are closed when the test ends.
func (f *front) recv() message {
	f.t.Helper()
	r, flags, payload, fds, err := f.Receive()
	if err != nil {
		f.t.Fatalf("no message came: %v", err)
	}
	for _, fd := range fds {
		f.t.Cleanup(func() { unix.Close(fd) })
	}
	return message{r, flags, payload, fds}
}

// call sends a request that is answered and gives the answer, whose header is
// held to the rule: same request, version 1, the reply flag, and no other.
func (f *front) call(r vhost.Request, flags uint32, payload []byte, fds ...int) message {
	f.t.Helper()
	f.send(r, flags, payload, fds...)
	m := f.recv()
	if m.request != r || m.flags != version|isReply {
		f.t.Fatalf("%v was answered by %v with flags %#x, want flags %#x", r, m.request, m.flags, version|isReply)
	}
	return m
}

// acked fails unless the request, sent with need_reply, is acknowledged by 0.
func (f *front) acked(r vhost.Request, payload []byte, fds ...int) {
	f.t.Helper()
	if code := f.call(r, needReply, payload, fds...).u64(f.t); code != 0 {
		f.t.Fatalf("%v was refused (%d)", r, code)
	}
}

// nacked fails unless the request, sent with need_reply, is refused by a number
// that is not 0, and the connection goes on.
func (f *front) nacked(r vhost.Request, payload []byte, fds ...int) {
	f.t.Helper()
	if code := f.call(r, needReply, payload, fds...).u64(f.t); code == 0 {
		f.t.Fatalf("%v was not refused", r)
	}
	f.alive()
}

// refused fails unless err, of a method of Conn, is a refusal, and the
// connection goes on.
func (f *front) refused(err error) {
	f.t.Helper()
	if _, is := errors.AsType[*vhost.RefusedError](err); !is {
		f.t.Fatalf("not refused: %v", err)
	}
	f.alive()
}

// alive fails unless the next message that comes is the answer to GET_FEATURES:
// the connection stands, is in step, and nothing else was sent before.
func (f *front) alive() {
	f.t.Helper()
	f.call(vhost.GetFeatures, 0, nil)
}

// closed fails unless the back-end closes the connection without a word more,
// and gives why the session ended.
func (f *front) closed() error {
	f.t.Helper()
	r, _, _, _, err := f.Receive()
	switch {
	case err == nil:
		f.t.Fatalf("%v came, and the connection should have ended", r)
	case !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET):
		f.t.Fatalf("the connection was not closed: %v", err)
	}
	return f.b.end()
}

// session is the back-end's side of the connection, for what no message tells.
// Of several connections to one back-end the first to ask gets the oldest.
func (f *front) session() *vhost.Session {
	f.t.Helper()
	if f.seen == nil {
		f.seen = receive(f.t, "a session", f.b.sessions)
	}
	return f.seen
}
