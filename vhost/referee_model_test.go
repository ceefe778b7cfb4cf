package vhost

import (
	"encoding"
	"slices"

	"golang.org/x/sys/unix"
)

// do does what a message says and gives its answer, with a file or -1. Rules
// were looked at before.
func (m *match) do(msg *message) (encoding.BinaryAppender, int) {
	switch r := Request(msg.Request); r {
	case GetFeatures:
		return U64(m.r.features), -1
	case GetProtocolFeatures:
		return U64(m.r.protocol), -1
	case GetQueueNum:
		return U64(m.r.queues), -1
	case GetMaxMemSlots:
		return U64(m.r.slots), -1
	case GetStatus:
		return U64(m.status), -1
	case GetConfig:
		c, err := decode[Config](msg)
		if err != nil {
			return nil, -1
		}
		c.Data = m.config[c.Offset : c.Offset+c.Size]
		return c, -1
	case GetInflightFD:
		return m.newRecord(msg)
	case GetVringBase:
		return m.stopRing(msg), -1
	}
	m.change(msg)
	return U64(0), -1
}

// newRecord answers GET_INFLIGHT_FD.
func (m *match) newRecord(msg *message) (encoding.BinaryAppender, int) {
	i, err := decode[Inflight](msg)
	if err != nil || m.r.record == 0 {
		return Inflight{}, -1
	}
	fd, err := unix.MemfdCreate("test-record", unix.MFD_CLOEXEC)
	if err != nil {
		return Inflight{}, -1
	}
	i.Size = m.r.record
	return i, fd
}

func (m *match) stopRing(msg *message) encoding.BinaryAppender {
	s, _ := decode[VringState](msg)
	g := m.ring(s.Index)
	if g.running && m.r.base != nil {
		g.base = m.r.base(int(s.Index), g.base)
	}
	g.running = false
	g.close()
	return VringState{s.Index, g.base}
}

// ring is ring i of the model.
func (m *match) ring(i uint32) *refRing {
	if m.rings[i] == nil {
		m.rings[i] = &refRing{kick: -1, call: -1, err: -1}
	}
	return m.rings[i]
}

// change follows a message that is only acknowledged.
func (m *match) change(msg *message) {
	switch r := Request(msg.Request); r {
	case SetOwner:
		m.owned = true
	case SetFeatures:
		u, _ := decode[U64](msg)
		m.settled = true
		m.agreed = featuresOf(u)
	case SetProtocolFeatures:
		u, _ := decode[U64](msg)
		m.protocol = ProtocolFeatures(u)
	case SetStatus:
		u, _ := decode[U64](msg)
		m.status = uint8(u)
	case SetBackendReqFD:
		if fd, err := msg.fds.Take(0); err == nil {
			if c, err := connectedSocket(fd); err == nil {
				m.channel = newWire(c, testTimeout)
			}
		}
	case SetInflightFD:
		i, _ := decode[Inflight](msg)
		id, _ := fileID(msg.fds.fds[0])
		m.recorded = append(m.recorded, sentRecord{i, id})
	case SetConfig:
		c, _ := decode[Config](msg)
		copy(m.config[c.Offset:], c.Data)
	case ResetDevice:
		m.status = 0
		for _, g := range m.rings {
			g.close()
			*g = refRing{kick: -1, call: -1, err: -1}
		}
	case SetMemTable, AddMemReg, RemMemReg:
		m.changeMemory(msg)
	default:
		m.changeRing(msg)
	}
}

func (m *match) changeMemory(msg *message) {
	if r := Request(msg.Request); r == SetMemTable {
		table, _ := decode[MemTable](msg)
		m.regions = nil
		for i, one := range table {
			id, _ := fileID(msg.fds.fds[i])
			m.regions = append(m.regions, sharedRegion{one, id})
		}
		return
	}
	one, _ := decode[SingleRegion](msg)
	if Request(msg.Request) == RemMemReg {
		m.regions = slices.DeleteFunc(m.regions, func(r sharedRegion) bool { return r.MemRegion == MemRegion(one) })
		return
	}
	id, _ := fileID(msg.fds.fds[0])
	m.regions = append(m.regions, sharedRegion{MemRegion(one), id})
}

func (m *match) changeRing(msg *message) {
	switch Request(msg.Request) {
	case SetVringAddr:
		a, _ := decode[VringAddr](msg)
		g := m.ring(a.Index)
		g.addr, g.placed = a, true
	case SetVringNum, SetVringBase, SetVringEnable:
		s, _ := decode[VringState](msg)
		g := m.ring(s.Index)
		switch Request(msg.Request) {
		case SetVringNum:
			g.num, g.sized = s.Num, true
		case SetVringBase:
			g.base, g.based = s.Num, true
		default:
			g.enabled = s.Num == 1
		}
	case SetVringKick, SetVringCall, SetVringErr:
		v, _ := decode[VringFD](msg)
		g := m.ring(uint32(v.Index))
		to := map[Request]*int{SetVringKick: &g.kick, SetVringCall: &g.call, SetVringErr: &g.err}[Request(msg.Request)]
		closeFD(*to)
		*to, _ = msg.fds.Take(0)
		if Request(msg.Request) == SetVringKick {
			g.running = true
		}
	}
}
