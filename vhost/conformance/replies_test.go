package conformance

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// Rule 8★ (vhost-user, REPLY_ACK): With REPLY_ACK agreed on, a message that has
// no reply of its own and asks for one is answered once, by a number that is 0
// if it was done. It counts from SET_PROTOCOL_FEATURES on, whether or not
// GET_PROTOCOL_FEATURES came before.
func TestNeedReplyIsAcknowledgedOnce(t *testing.T) {
	d := network()
	f := connect(t, d)
	must(t, f.SetProtocolFeatures(vhost.ProtocolReplyAck|vhost.ProtocolMTU|vhost.ProtocolRARP|
		vhost.ProtocolMemSlots|vhost.ProtocolStatus|vhost.ProtocolResetDevice))
	f.mem = newMemory(t, vhost.MemRegion{GPA: 0x10000, UVA: 0x10000 + userShift, Size: 4 * ringBytes})
	region := payloadOf(vhost.SingleRegion(f.mem.MemRegion))
	r := f.ring(1)
	state := func(num uint32) []byte { return payloadOf(vhost.VringState{Index: 1, Num: num}) }
	for _, m := range []struct {
		request vhost.Request
		payload []byte
		fds     []int
	}{
		{request: vhost.SetOwner},
		{vhost.SetFeatures, payloadOf(vhost.U64(virtio.FeatureVersion1 | virtio.FeatureProtocol)), nil},
		{vhost.NetSetMTU, payloadOf(vhost.U64(1500)), nil},
		{vhost.SetStatus, payloadOf(vhost.U64(8)), nil},
		{vhost.SetMemTable, payloadOf(vhost.MemTable{f.mem.MemRegion}), []int{f.mem.fd}},
		{vhost.RemMemReg, region, nil},
		{vhost.AddMemReg, region, []int{f.mem.fd}},
		{vhost.SetVringNum, state(ringSize), nil},
		{vhost.SetVringBase, state(0), nil},
		{vhost.SetVringAddr, payloadOf(r.addr()), nil},
		{vhost.SetVringKick, payloadOf(vhost.VringFD{Index: 1}), []int{r.kick}},
		{vhost.SetVringCall, payloadOf(vhost.VringFD{Index: 1}), []int{r.call}},
		{vhost.SetVringErr, payloadOf(vhost.VringFD{Index: 1}), []int{r.err}},
		{vhost.SetVringEnable, state(1), nil},
		{vhost.SendRARP, make([]byte, 8), nil},
		{request: vhost.ResetDevice},
		{request: vhost.ResetOwner},
	} {
		f.acked(m.request, m.payload, m.fds...)
	}
	f.alive() // no answer came twice
	f.nacked(vhost.SetVringNum, state(3))
}

// Rule 9 (vhost-user, REPLY_ACK): A message that has a reply of its own gets
// that one only, also when it asks for an acknowledgement.
func TestOwnReplyIsTheOnlyOne(t *testing.T) {
	f := plug(t, withConfig(), options{})
	log := newFile(t, page)
	for _, m := range []struct {
		request vhost.Request
		payload []byte
		fds     []int
		size    int // of the reply
	}{
		{vhost.GetFeatures, nil, nil, 8},
		{vhost.GetProtocolFeatures, nil, nil, 8},
		{vhost.GetQueueNum, nil, nil, 8},
		{vhost.GetMaxMemSlots, nil, nil, 8},
		{vhost.GetStatus, nil, nil, 8},
		{vhost.GetVringBase, payloadOf(vhost.VringState{}), nil, 8},
		{vhost.GetConfig, payloadOf(vhost.Config{Size: 32, Data: make([]byte, 32)}), nil, 12 + 32},
		{vhost.SetLogBase, payloadOf(vhost.LogBase{Size: page}), []int{log}, 8},
	} {
		if got := f.call(m.request, needReply, m.payload, m.fds...); len(got.payload) != m.size {
			t.Errorf("%v was answered by %d bytes, want %d", m.request, len(got.payload), m.size)
		}
		f.alive()
	}
}

// Rule 10 (vhost-user, REPLY_ACK; QEMU): Without REPLY_ACK a wish for an
// acknowledgement is not heard, except in POSTCOPY_LISTEN and POSTCOPY_END (and
// in IOTLB_MSG, rule 112), which always get a number. Here it says no.
func TestNeedReplyWithoutReplyAckIsNotAnswered(t *testing.T) {
	f := plug(t, entropy(), options{without: vhost.ProtocolReplyAck})
	f.send(vhost.SetOwner, needReply, nil)
	f.alive()
	f.send(vhost.SetStatus, needReply, payloadOf(vhost.U64(1)))
	f.alive()
	f.send(vhost.SetVringEnable, needReply, payloadOf(vhost.VringState{Index: 0, Num: 1}))
	f.alive()
	for _, request := range []vhost.Request{vhost.PostcopyListen, vhost.PostcopyEnd} {
		if f.call(request, needReply, nil).u64(t) == 0 {
			t.Errorf("%v was served", request)
		}
		f.alive()
	}
}

// Rule 11 (vhost-user, Header): The flags of a reply are version 1 and the
// reply bit. What the request had set besides does not come back; QEMU compares
// all bits.
func TestReplyHasNoFlagsOfTheRequest(t *testing.T) {
	f := plug(t, entropy(), options{})
	for _, m := range []struct {
		request vhost.Request
		payload []byte
	}{
		{vhost.GetFeatures, nil}, {vhost.GetVringBase, make([]byte, 8)},
		{vhost.SetStatus, payloadOf(vhost.U64(1))}, // acknowledged
		{vhost.SetVringNum, make([]byte, 8)},       // refused
		{vhost.PostcopyEnd, nil},                   // refused by a reply of its own
	} {
		f.send(m.request, needReply|0xfff0, m.payload)
		if got := f.recv(); got.flags != version|isReply {
			t.Errorf("%v: the reply's flags are %#x, want %#x", m.request, got.flags, version|isReply)
		}
	}
}

// stay is a device whose worker stays with a chain until it is let go.
type stay struct {
	*device
	inside  chan struct{} // it has come
	release chan struct{} // closed: let it go
	left    atomic.Bool   // it was let go
}

func stayer() *stay {
	s := &stay{device: entropy(), inside: make(chan struct{}, 1), release: make(chan struct{})}
	s.serve = func(q *virtio.Queue) error {
		for c := range q.Chains() {
			select {
			case s.inside <- struct{}{}:
			default: // it was seen to come before
			}
			<-s.release
			s.left.Store(true)
			c.Done(0)
		}
		return nil
	}
	return s
}

// answeredAfterLeaving holds a worker in ring 0, sends a message that takes
// something away, asks for an answer, and fails if one comes before the worker
// has left.
func (s *stay) answeredAfterLeaving(t *testing.T, send func(f *front, r *ring)) *front {
	t.Helper()
	f := plug(t, s, options{})
	r := f.ring(0)
	r.start()
	r.post()
	receive(t, "the worker's coming", s.inside)
	send(f, r)
	early := !quietFor(t, f)
	outBefore := s.left.Load()
	close(s.release)
	if early || outBefore {
		t.Error("answered while a worker was at the ring")
	}
	f.recv()
	if !s.left.Load() {
		t.Error("answered before the worker left")
	}
	return f
}

// quietFor looks for a while whether anything comes, and takes nothing. That
// nothing came proves nothing by itself; that something came is a failure.
func quietFor(t *testing.T, f *front) bool {
	t.Helper()
	raw, err := f.sock.SyscallConn()
	must(t, err)
	n := 0
	must(t, raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, _ = unix.Poll(p, int(30*time.Millisecond/time.Millisecond))
	}))
	return n <= 0
}

// Rule 12 (QEMU): GET_FEATURES is a barrier: when it is answered, the messages
// before it have taken effect in all worker threads.
func TestGetFeaturesWaitsForWhatWasSaidBefore(t *testing.T) {
	f := stayer().answeredAfterLeaving(t, func(f *front, r *ring) {
		f.send(vhost.SetVringEnable, 0, payloadOf(vhost.VringState{Index: 0, Num: 0}))
		f.send(vhost.GetFeatures, 0, nil)
	})
	f.alive()
}

// Rule 13 (vhost-user, REPLY_ACK): When SET_VRING_ENABLE or SET_MEM_TABLE is
// acknowledged, every worker sees it already.
func TestAcknowledgedIsSeenByWorkers(t *testing.T) {
	t.Run("SET_VRING_ENABLE", func(t *testing.T) {
		stayer().answeredAfterLeaving(t, func(f *front, r *ring) {
			f.send(vhost.SetVringEnable, needReply, payloadOf(vhost.VringState{Index: 0, Num: 0}))
		})
	})
	t.Run("SET_MEM_TABLE", func(t *testing.T) {
		stayer().answeredAfterLeaving(t, func(f *front, r *ring) {
			other := vhost.MemRegion{GPA: 0x1000, UVA: 0x1000 + userShift, Size: page}
			f.send(vhost.SetMemTable, needReply, payloadOf(vhost.MemTable{other}), newFile(t, page))
		})
	})
}

// Rule 14 (vhost-user, REPLY_ACK): A request that nobody knows is refused if it
// asks for an answer, and ignored otherwise.
func TestUnknownRequestIsRefusedAndForgotten(t *testing.T) {
	f := plug(t, entropy(), options{})
	r := f.ring(0)
	r.start()
	for _, request := range []vhost.Request{0, 46, 99, 1 << 31} {
		f.nacked(request, make([]byte, 24))
		f.send(request, 0, nil)
		f.alive()
	}
	r.works()
}
