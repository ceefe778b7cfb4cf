package conformance

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost"
)

// packet is a message's bytes, header and payload.
func packet(r vhost.Request, flags uint32, payload []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(r))
	b = binary.NativeEndian.AppendUint32(b, flags)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// drip sends bytes one by one, each after the one before was read.
func (f *front) drip(b []byte, fds ...int) {
	f.t.Helper()
	oob := unix.UnixRights(fds...)
	for i := range b {
		_, _, err := f.sock.WriteMsgUnix(b[i:i+1], oob, nil)
		must(f.t, err)
		oob = nil // files go with the first byte
		eventually(f.t, "the byte is read", func() bool { return f.unread() == 0 })
	}
}

// unread tells how much of what we sent lies in the socket; 0: nothing.
func (f *front) unread() (n int) {
	raw, err := f.sock.SyscallConn()
	must(f.t, err)
	must(f.t, raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }))
	must(f.t, err)
	return n
}

// canary is a file that a back-end has no use for. gone waits until the
// back-end has closed what it got of it.
func (f *front) canary() (fd int, gone func()) {
	f.t.Helper()
	var p [2]int
	must(f.t, unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	f.t.Cleanup(func() { unix.Close(p[0]) })
	return p[1], func() {
		f.t.Helper()
		unix.Close(p[1])
		eventually(f.t, "the back-end closes a file it was sent", func() bool {
			n, err := unix.Read(p[0], make([]byte, 1))
			return n == 0 && err == nil // the end: nobody can write any more
		})
	}
}

// Rule 1 (vhost-user, Header): A header may come in several reads, its files
// with the first byte. It is put together before anything is done.
func TestHeaderSplitOverReadsIsReassembled(t *testing.T) {
	f := connect(t, entropy())
	f.agree(options{})
	f.mem = newMemory(t, vhost.MemRegion{GPA: 0x10000, UVA: 0x10000 + userShift, Size: 4 * ringBytes})
	f.drip(packet(vhost.AddMemReg, version|needReply, payloadOf(vhost.SingleRegion(f.mem.MemRegion))), f.mem.fd)
	if m := f.recv(); m.request != vhost.AddMemReg || m.u64(t) != 0 {
		t.Fatalf("answered by %+v", m)
	}
	r := f.ring(0)
	r.start()
	r.works()
}

// Rule 2 (vhost-user, Communication): Messages that lie in the socket together
// are all processed, and each keeps the files that were sent with it.
func TestMessagesInOneSegmentKeepTheirOwnFiles(t *testing.T) {
	b := prepare(t, entropy())
	f := b.dial()
	f.mem = newMemory(t, vhost.MemRegion{GPA: 0x10000, UVA: 0x10000 + userShift, Size: 4 * ringBytes})
	rings := []*ring{f.ring(0), f.ring(1)}
	// Nothing is answered, for REPLY_ACK is not agreed on.
	must(t, f.SetFeatures(plain))
	must(t, f.SetMemTable([]vhost.MemRegion{f.mem.MemRegion}, []int{f.mem.fd}))
	for _, r := range rings {
		r.start()
	}
	two := append(packet(vhost.GetFeatures, version, nil), packet(vhost.GetFeatures, version, nil)...)
	_, err := f.sock.Write(two)
	must(t, err)
	b.serve()
	for range 2 {
		if m := f.recv(); m.request != vhost.GetFeatures {
			t.Fatalf("answered by %v", m.request)
		}
	}
	for i, r := range rings {
		r.works()
		f.signalled(r.call)
		if takeSignal(rings[1-i].call) {
			t.Errorf("the completion of ring %d was told to ring %d", i, 1-i)
		}
	}
}

// Rule 3 (vhost-user, Header): A message whose version is not 1 is never
// processed; the connection ends.
func TestWrongVersionIsNeverProcessed(t *testing.T) {
	for _, wrong := range []uint32{0, 2, 3} {
		d := network()
		f := plug(t, d, options{})
		d.said()
		must(t, f.Send(vhost.SendRARP, wrong|needReply, make([]byte, 8)))
		if err := f.closed(); err == nil {
			t.Errorf("version %d: the session ended as if the peer had left", wrong)
		}
		if s := d.said(); len(s) != 0 {
			t.Errorf("version %d: the message was processed: %q", wrong, s)
		}
	}
}

// sized are requests that are acknowledged, with a payload of the right size.
var sized = map[vhost.Request]int{
	vhost.SetFeatures: 8, vhost.SetOwner: 0, vhost.ResetOwner: 0, vhost.SetVringNum: 8, vhost.SetVringAddr: 40,
	vhost.SetVringBase: 8, vhost.SetVringKick: 8, vhost.SetVringCall: 8, vhost.SetVringErr: 8,
	vhost.SetProtocolFeatures: 8, vhost.SetVringEnable: 8, vhost.SendRARP: 8, vhost.NetSetMTU: 8,
	vhost.SetBackendReqFD: 0, vhost.ResetDevice: 0, vhost.AddMemReg: 40, vhost.RemMemReg: 40, vhost.SetStatus: 8,
	vhost.SetMemTable: 8 + 32, vhost.SetLogFD: 0,
}

// Rule 4 (vhost-user, Payload): A payload that has not the size of its layout
// is refused, its files are closed, and the stream stays in step.
func TestWrongPayloadSizeIsRefusedInStep(t *testing.T) {
	f := plug(t, network(), options{})
	for request, right := range sized {
		for _, n := range []int{right - 1, right + 1, right + 4, 300} {
			if n < 0 {
				continue
			}
			file, gone := f.canary()
			f.nacked(request, make([]byte, n), file)
			gone()
		}
	}
	r := f.ring(0)
	r.start()
	r.works()
}

// Rule 5 (vhost-user, Header): A payload that claims to be larger than any
// message is not waited for: the connection ends at its header.
func TestOversizedPayloadEndsTheConnection(t *testing.T) {
	for _, size := range []uint32{4097, 1 << 20, 1<<32 - 1} {
		f := connect(t, entropy())
		head := packet(vhost.SetFeatures, version, nil)
		binary.NativeEndian.PutUint32(head[8:], size)
		_, err := f.sock.Write(head)
		must(t, err)
		if err := f.closed(); !isProtocolError(err) {
			t.Errorf("%d bytes: the session ended with %v", size, err)
		}
	}
}

func isProtocolError(err error) bool {
	_, is := errors.AsType[*vhost.ProtocolError](err)
	return is
}

// stands says whether the connection goes on: whatever is answered first,
// GET_FEATURES is answered too.
func (f *front) stands() bool {
	if f.Send(vhost.GetFeatures, version, nil) != nil {
		return false
	}
	for {
		r, _, _, _, err := f.Receive()
		if err != nil || r == vhost.GetFeatures {
			return err == nil
		}
	}
}

// Rule 6★ (vhost-user, Communication): Files that a message does not call for
// are closed, whatever becomes of the message.
func TestUnexpectedFilesAreClosed(t *testing.T) {
	b := listen(t, network())
	var f *front
	for request := range vhost.Request(48) {
		for _, payload := range [][]byte{nil, make([]byte, 8), make([]byte, 40)} {
			if f == nil || !f.stands() {
				f = b.dial()
				f.agree(options{})
			}
			one, oneGone := f.canary()
			two, twoGone := f.canary()
			f.send(request, needReply, payload, one, two)
			oneGone()
			twoGone()
		}
	}
	f = b.dial()
	one, gone := f.canary()
	ten := []int{one, one, one, one, one, one, one, one, one, one}
	f.send(vhost.SetOwner, 0, nil, ten...)
	gone()
}

// Rule 7 (vhost-user, SET_MEM_TABLE and ADD_MEM_REG): Fewer files than a
// message needs is a refusal that changes nothing.
func TestTooFewFilesChangeNothing(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.start()
	file, more := newFile(t, page), vhost.MemRegion{GPA: 0x1000, UVA: 0x1000 + userShift, Size: page}
	two := payloadOf(vhost.MemTable{more, f.mem.MemRegion})
	f.nacked(vhost.SetMemTable, two)
	f.nacked(vhost.SetMemTable, two, file)
	f.nacked(vhost.AddMemReg, payloadOf(vhost.SingleRegion(more)))
	r.works()
	f.nacked(vhost.SetVringCall, payloadOf(vhost.VringFD{Index: 0})) // bit 8 says that none comes
	f.nacked(vhost.SetBackendReqFD, nil)
	takeSignal(r.call)
	r.works()
	f.signalled(r.call)
	if got := regions(f); len(got) != 1 || got[0].GPA != f.mem.GPA {
		t.Errorf("regions: %+v", got)
	}
}
