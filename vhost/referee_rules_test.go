package vhost

import (
	"slices"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

func featuresOf(u U64) virtio.Features { return virtio.Features(u) }

// rules holds a message against what a front-end must keep, before it is done.
func (m *match) rules(msg *message) {
	r := Request(msg.Request)
	if err := r.check(msg); err != nil {
		m.fault("%v", err)
		return
	}
	if msg.Flags&^flagNeedReply != flagVersion {
		m.fault("%v with flags %#x", r, msg.Flags)
	}
	if msg.needReply() && !m.protocol.Has(ProtocolReplyAck) {
		m.fault("%v asks for an acknowledgement that was not agreed on", r)
	}
	switch r {
	case SetOwner:
		if m.owned {
			m.fault("SET_OWNER came twice")
		}
	case GetProtocolFeatures, SetProtocolFeatures, SetVringEnable:
		if !m.offered().Has(virtio.FeatureProtocol) {
			m.fault("%v without PROTOCOL_FEATURES", r)
		}
	}
	m.negotiationRules(msg)
	m.memoryRules(msg)
	m.ringRules(msg)
}

// gates are the messages that need a protocol feature; those that a front-end
// of a process has no use for need one that it never agrees on.
var gates = map[Request]ProtocolFeatures{
	GetQueueNum: ProtocolMQ, GetMaxMemSlots: ProtocolMemSlots, AddMemReg: ProtocolMemSlots, RemMemReg: ProtocolMemSlots,
	SetBackendReqFD: ProtocolBackendReq, GetConfig: ProtocolConfig, SetConfig: ProtocolConfig, NetSetMTU: ProtocolMTU,
	GetInflightFD: ProtocolInflightSHMFD, SetInflightFD: ProtocolInflightSHMFD, ResetDevice: ProtocolResetDevice,
	GetStatus: ProtocolStatus, SetStatus: ProtocolStatus,
	SetLogBase: ProtocolLogSHMFD, SendRARP: ProtocolRARP, PostcopyAdvise: ProtocolPageFault, PostcopyListen: ProtocolPageFault,
	PostcopyEnd: ProtocolPageFault, VringKick: ProtocolInband, GetShmemConfig: 1 << 22, SetDeviceStateFD: ProtocolDeviceState,
}

func (m *match) negotiationRules(msg *message) {
	r := Request(msg.Request)
	if need := gates[r]; !m.protocol.Has(need) {
		m.fault("%v without %v", r, need.Names())
	}
	u, _ := decode[U64](msg)
	switch r {
	case SetFeatures:
		f := featuresOf(u)
		switch {
		case f&^m.offered() != 0:
			m.fault("features %#x that were not offered", f&^m.offered())
		case m.promised().Has(virtio.FeatureProtocol) && !f.Has(virtio.FeatureProtocol):
			m.fault("PROTOCOL_FEATURES is not sent back")
		case m.anyRunning():
			m.fault("features change while a ring runs")
		}
	case SetProtocolFeatures:
		if p := ProtocolFeatures(u); p&^(m.r.protocol&implementedProtocol) != 0 {
			m.fault("protocol features %v", (p &^ (m.r.protocol & implementedProtocol)).Names())
		}
	case SetStatus:
		if u == 0 && m.anyRunning() {
			m.fault("status 0 while a ring runs")
		}
	case SetInflightFD:
		if m.anyRunning() {
			m.fault("SET_INFLIGHT_FD while a ring runs")
		}
	case ResetOwner, SetLogFD, IOTLBMsg, SetVringEndian:
		m.fault("%v has no place here", r)
	}
}

func (m *match) anyRunning() bool {
	for _, g := range m.rings {
		if g.running {
			return true
		}
	}
	return false
}

func (m *match) memoryRules(msg *message) {
	next := slices.Clone(m.regions)
	switch Request(msg.Request) {
	case SetMemTable:
		table, _ := decode[MemTable](msg)
		if msg.fds.Len() != len(table) {
			m.fault("a table of %d regions with %d files", len(table), msg.fds.Len())
		}
		next = nil
		for _, one := range table {
			next = append(next, sharedRegion{MemRegion: one})
		}
	case AddMemReg:
		one, _ := decode[SingleRegion](msg)
		if msg.fds.Len() != 1 {
			m.fault("ADD_MEM_REG with %d files", msg.fds.Len())
		}
		if next = append(next, sharedRegion{MemRegion: MemRegion(one)}); uint64(len(next)) > m.r.slots {
			m.fault("%d regions in %d slots", len(next), m.r.slots)
		}
	case RemMemReg:
		one, _ := decode[SingleRegion](msg)
		if !slices.ContainsFunc(m.regions, func(r sharedRegion) bool { return r.MemRegion == MemRegion(one) }) {
			m.fault("REM_MEM_REG of a region that is not there")
		}
		if msg.fds.Len() != 0 {
			m.fault("REM_MEM_REG with a file")
		}
		next = slices.DeleteFunc(next, func(r sharedRegion) bool { return r.MemRegion == MemRegion(one) })
	default:
		return
	}
	m.tableRules(next)
}

// tableRules holds a whole table against the rules: what is in it is disjoint
// and level with pages, and every ring that runs lies in it.
func (m *match) tableRules(next []sharedRegion) {
	for i, a := range next {
		if a.Size == 0 || (uint64(a.GPA)|a.Size|uint64(a.UVA)|a.Offset)%guestPage != 0 {
			m.fault("region %+v", a)
		}
		for _, b := range next[:i] {
			if a.GPA < b.end() && b.GPA < a.end() || a.UVA < b.UVA+memtable.UVA(b.Size) && b.UVA < a.UVA+memtable.UVA(a.Size) {
				m.fault("regions %+v and %+v overlap", a, b)
			}
		}
	}
	for i, g := range m.rings {
		if g.running && !placed(next, g) {
			m.fault("ring %d loses its memory", i)
		}
	}
}

// placed says whether each part of a ring lies in one region.
func placed(regions []sharedRegion, g *refRing) bool {
	desc, avail, used := virtio.SplitSizes(uint16(g.num))
	for at, n := range map[memtable.UVA]uint64{g.addr.Desc: desc, g.addr.Avail: avail, g.addr.Used: used} {
		if !slices.ContainsFunc(regions, func(r sharedRegion) bool {
			return at >= r.UVA && uint64(at-r.UVA) < r.Size && n <= r.Size-uint64(at-r.UVA)
		}) {
			return false
		}
	}
	return true
}

func (m *match) ringRules(msg *message) {
	var i uint32
	r := Request(msg.Request)
	switch r {
	case SetVringNum, SetVringBase, GetVringBase, SetVringEnable, SetVringAddr:
		i = order.Uint32(msg.Payload)
	case SetVringKick, SetVringCall, SetVringErr:
		i = uint32(msg.Payload[0])
	default:
		return
	}
	g := m.ring(i)
	if n := max(m.r.queues, 1); m.protocol.Has(ProtocolMQ) && uint64(i) >= n {
		m.fault("%v for ring %d of %d", r, i, n)
	}
	switch r {
	case SetVringNum, SetVringBase, SetVringAddr:
		if g.running {
			m.fault("%v for ring %d, which runs", r, i)
		}
	case GetVringBase:
		if order.Uint32(msg.Payload[4:]) != 0 {
			m.fault("GET_VRING_BASE with a number")
		}
	case SetVringKick:
		if !g.sized || !g.placed || !g.based || !m.settled {
			m.fault("ring %d starts before it was told of", i)
		} else if !placed(m.regions, g) {
			m.fault("ring %d starts without memory", i)
		}
	}
}

// offered are the features that this connection was told of at least once, and
// promised those it was told of whenever it asked.
func (m *match) offered() virtio.Features {
	if m.told == nil {
		return m.r.features
	}
	return m.r.features | *m.told
}

func (m *match) promised() virtio.Features {
	if m.told == nil {
		return m.r.features
	}
	return m.r.features & *m.told
}
