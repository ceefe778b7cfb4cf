package vhost

import "fmt"

// Feature bits, as the specifications number them.
const (
	featureLogAll     = 1 << 26
	featureIndirect   = 1 << 28
	featureEventIdx   = 1 << 29
	featureProtocol   = 1 << 30
	featureVersion1   = 1 << 32
	featureInOrder    = 1 << 35
	protocolReplyAck  = 1 << 3
	protocolInband    = 1 << 14
	protocolLogSHMFD  = 1 << 1
	protocolChannel   = 1 << 5
	headerFlagVersion = 1
	headerFlagReply   = 4
	headerFlagNeed    = 8
)

// sent is a message on its way to the back-end.
type sent struct {
	request, flags uint32
	payload        []byte
	files          []int // numbers of the world's
	cut            int   // after how many bytes it is sent in two pieces; 0: in one
}

// alwaysReplied are the requests that have a reply whatever was agreed on
// (vhost-user, "Front-end message types").
var alwaysReplied = map[Request]bool{
	GetFeatures: true, GetProtocolFeatures: true, GetVringBase: true, GetQueueNum: true, IOTLBMsg: true, GetConfig: true,
	CreateCryptoSession: true, PostcopyAdvise: true, PostcopyListen: true, PostcopyEnd: true, GetInflightFD: true,
	GetMaxMemSlots: true, GetStatus: true, GetSharedObject: true, SetDeviceStateFD: true, CheckDeviceState: true,
	GetShmemConfig: true,
}

// due says whether the back-end owes s a reply, or the end of the connection.
func (m *model) due(s *sent) bool {
	protocol := m.protocol
	switch r := Request(s.request); {
	case alwaysReplied[r]:
		return true
	case r == SetLogBase && protocol&protocolLogSHMFD != 0:
		return true
	case r == SetProtocolFeatures && m.takesProtocol(s):
		protocol = s.u64() // the answer follows what it says
	}
	return s.flags&headerFlagNeed != 0 && protocol&protocolReplyAck != 0
}

func (m *model) takesProtocol(s *sent) bool {
	return len(s.payload) == 8 && len(s.files) == 0 && s.u64()&^m.offeredProtocol() == 0
}

func (m *model) offeredProtocol() uint64 {
	if m.net {
		return fuzzNetProtocol
	}
	return fuzzConfigProtocol
}

// mayEnd says whether s is a reason for the connection's end: it cannot be
// refused otherwise, or the stream is out of step.
func (m *model) mayEnd(s *sent) bool {
	r := Request(s.request)
	switch {
	case s.flags&3 != headerFlagVersion || len(s.files) > maxRegions:
		return true
	case r == SetProtocolFeatures && len(s.payload) == 8 && s.u64()&protocolInband != 0:
		return true
	case r == GetFeatures || r == GetProtocolFeatures || r == SetOwner || r == ResetOwner:
		return len(s.payload) != 0 || len(s.files) != 0
	case r == GetVringBase:
		return len(s.payload) != 8 || len(s.files) != 0 || s.u32(0) >= uint32(len(m.rings))
	case r == SetVringEnable:
		return !m.due(s) && (len(s.payload) != 8 || len(s.files) != 0 || s.u32(0) >= uint32(len(m.rings)) || s.u32(4) > 1)
	case r == 0 || r > GetShmemConfig:
		return false // nobody knows it: it is ignored
	case alwaysReplied[r], r == SetLogBase:
		return true
	}
	return !m.due(s)
}

func (s *sent) u64() uint64 { return order.Uint64(s.payload) }

func (s *sent) u32(off int) uint32 { return order.Uint32(s.payload[off:]) }

// file is the number of the file that came with s; -1: none.
func (s *sent) file() int {
	if len(s.files) == 0 {
		return -1
	}
	return s.files[0]
}

// answered holds a reply against the message it is for, and follows both.
func (m *model) answered(s *sent, reply *sent) error {
	r := Request(s.request)
	if reply.request != s.request || reply.flags != headerFlagVersion|headerFlagReply {
		return fmt.Errorf("%v was answered by message %d with flags %#x", r, reply.request, reply.flags)
	}
	switch r {
	case GetFeatures, GetProtocolFeatures, GetQueueNum, GetMaxMemSlots, GetStatus:
		return m.constant(r, reply)
	case GetVringBase:
		return m.stopped(s, reply)
	case GetConfig:
		if n := len(reply.payload); n != 0 && n != len(s.payload) {
			return fmt.Errorf("GET_CONFIG of %d bytes was answered with %d", len(s.payload), n)
		}
		return nil
	case SetLogBase:
		if len(reply.payload) == 8 && reply.u64() == 0 {
			return m.accepted(s)
		}
		return nil
	}
	if len(reply.payload) != 8 {
		return fmt.Errorf("%v was answered with %d bytes", r, len(reply.payload))
	}
	// A ring that has no memory is started all the same.
	if reply.u64() == 0 || r == SetVringKick && m.kickIsMild(s) {
		return m.accepted(s)
	}
	return nil
}

// constant holds a number against what it must be.
func (m *model) constant(r Request, reply *sent) error {
	want := map[Request]uint64{GetProtocolFeatures: m.offeredProtocol(), GetQueueNum: 4, GetMaxMemSlots: maxSlots, GetStatus: m.status}
	want[GetFeatures] = fuzzFeatures
	if m.net {
		want[GetQueueNum], want[GetFeatures] = 2, fuzzFeatures|fuzzNetFeatures
	}
	if len(reply.payload) != 8 || reply.u64() != want[r] {
		return fmt.Errorf("%v was answered with % x, not %#x", r, reply.payload, want[r])
	}
	return nil
}

// stopped follows GET_VRING_BASE: it says how many chains were given back.
func (m *model) stopped(s, reply *sent) error {
	if len(reply.payload) != 8 || len(s.payload) != 8 || reply.u32(0) != s.u32(0) {
		return fmt.Errorf("GET_VRING_BASE % x was answered with % x", s.payload, reply.payload)
	}
	r := &m.rings[reply.u32(0)]
	if !m.tainted && !m.w.shrunk && reply.u32(4) != uint32(r.next) {
		return fmt.Errorf("ring %d stopped at %d, but it had given back all before %d", reply.u32(0), reply.u32(4), r.next)
	}
	r.next = uint16(reply.u32(4))
	r.started, r.suspect, r.ran = false, false, false
	return nil
}

// kickIsMild says whether SET_VRING_KICK did its work though it was refused.
func (m *model) kickIsMild(s *sent) bool {
	if len(s.payload) != 8 || s.u64()&0xff >= uint64(len(m.rings)) {
		return false
	}
	if s.u64()&noFD == 0 && !isEventfd(s.file()) || len(s.files) > 1 {
		return false
	}
	r := m.rings[s.u64()&0xff]
	r.started = true
	_, _, _, ok := m.placed(&r)
	return !ok
}
