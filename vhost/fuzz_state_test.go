package vhost

import (
	"fmt"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// payloadOf is the size of what the model reads of a message.
var payloadOf = map[Request]int{
	SetFeatures: 8, SetProtocolFeatures: 8, SetStatus: 8, SetVringNum: 8, SetVringBase: 8, SetVringEnable: 8,
	SetVringAddr: 40, SetVringKick: 8, SetVringCall: 8, SetVringErr: 8, AddMemReg: 40, RemMemReg: 40, SetLogBase: 16,
}

// accepted follows a message that the back-end took. What it must not have
// taken is an error.
func (m *model) accepted(s *sent) error {
	if n, ok := payloadOf[Request(s.request)]; ok && len(s.payload) != n {
		return fmt.Errorf("%v of %d bytes was taken", Request(s.request), len(s.payload))
	}
	switch r := Request(s.request); r {
	case SetFeatures:
		if err := m.mayAgree(s.u64()); err != nil {
			return err
		}
		m.features = s.u64()
		if m.features&featureProtocol == 0 {
			for i := range m.rings {
				m.rings[i].enabled = true
			}
		}
	case SetProtocolFeatures:
		m.protocol = s.u64()
	case SetStatus:
		m.status = s.u64()
	case ResetOwner:
		for i := range m.rings {
			m.rings[i].enabled = false
		}
	case ResetDevice:
		m.rings, m.status = [4]modelRing{}, 0
	case SetMemTable, AddMemReg, RemMemReg:
		return m.memory(r, s)
	case SetLogBase:
		return m.setLog(s)
	case SetVringNum, SetVringAddr, SetVringBase, SetVringEnable:
		return m.ring(r, s)
	case SetVringKick:
		return m.start(s)
	case SetVringCall, SetVringErr:
		if s.u64()&noFD == 0 && !isEventfd(s.file()) {
			return fmt.Errorf("%v took file %d, which is no eventfd", r, s.file())
		}
	case SetBackendReqFD:
		if s.file() != fileSocket {
			return fmt.Errorf("SET_BACKEND_REQ_FD took file %d, which is no socket", s.file())
		}
	}
	return nil
}

// mayAgree says why features must not have been taken: the device has not
// offered them, or a ring runs with others.
func (m *model) mayAgree(f uint64) error {
	offered := uint64(fuzzFeatures)
	if m.net {
		offered |= fuzzNetFeatures
	}
	if f&^offered != 0 {
		return fmt.Errorf("features %#x were taken, %#x were offered", f, offered)
	}
	running := slices.ContainsFunc(m.rings[:], func(r modelRing) bool { return r.ran })
	if running && (f^m.features)&^featureLogAll != 0 {
		return fmt.Errorf("features %#x were taken while a ring runs with %#x", f, m.features)
	}
	return nil
}

// ring follows what is said of a ring.
func (m *model) ring(request Request, s *sent) error {
	if s.u32(0) >= uint32(len(m.rings)) {
		return fmt.Errorf("%v took ring %d", request, s.u32(0))
	}
	r := &m.rings[s.u32(0)]
	if r.ran && (request == SetVringNum || request == SetVringBase) {
		return fmt.Errorf("%v was taken for ring %d, which runs", request, s.u32(0))
	}
	switch request {
	case SetVringNum:
		if n := s.u32(4); n == 0 || n > 32768 || n&(n-1) != 0 {
			return fmt.Errorf("a ring of %d descriptors was taken", n)
		}
		r.size = int(s.u32(4))
	case SetVringBase:
		r.next = uint16(s.u32(4))
	case SetVringEnable:
		r.enabled = s.u32(4) == 1
		r.owed = r.started
	case SetVringAddr:
		var a VringAddr
		if err := a.UnmarshalBinary(s.payload); err != nil {
			return fmt.Errorf("SET_VRING_ADDR was taken: %w", err)
		}
		if r.ran && (r.descAt != uint64(a.Desc) || r.availAt != uint64(a.Avail) || r.usedAt != uint64(a.Used)) {
			return fmt.Errorf("ring %d was moved while it ran", a.Index)
		}
		r.located, r.flags = true, a.Flags
		r.descAt, r.availAt, r.usedAt = uint64(a.Desc), uint64(a.Avail), uint64(a.Used)
	}
	return nil
}

func (m *model) start(s *sent) error {
	i, file := s.u64()&0xff, s.file()
	switch {
	case i >= uint64(len(m.rings)):
		return fmt.Errorf("SET_VRING_KICK took ring %d", i)
	case s.u64()&noFD != 0:
		file = -1
	case !isEventfd(file):
		return fmt.Errorf("SET_VRING_KICK took file %d, which is no eventfd", file)
	}
	r := &m.rings[i]
	if !r.started {
		r.started, r.seen, r.ran = true, false, false
	}
	r.kick, r.owed = file, true
	return nil
}

// memory follows the regions.
func (m *model) memory(request Request, s *sent) error {
	var table MemTable
	if request == SetMemTable {
		if err := table.UnmarshalBinary(s.payload); err != nil {
			return fmt.Errorf("%v was taken: %w", request, err)
		}
	} else {
		var one SingleRegion
		if err := one.UnmarshalBinary(s.payload); err != nil {
			return fmt.Errorf("%v was taken: %w", request, err)
		}
		table = MemTable{MemRegion(one)}
	}
	if request == RemMemReg {
		m.regions = slices.DeleteFunc(m.regions, func(r modelRegion) bool {
			return r.gpa == uint64(table[0].GPA) && r.uva == uint64(table[0].UVA) && r.size == table[0].Size
		})
		return nil
	}
	if len(s.files) < len(table) {
		return fmt.Errorf("%v of %d regions took %d files", request, len(table), len(s.files))
	}
	before := m.regions
	if request == SetMemTable {
		m.regions = nil
	}
	for i, r := range table {
		if err := m.region(before, r, s.files[i]); err != nil {
			return err
		}
	}
	return nil
}

// region adds one; it must overlap no other, and lie in its file unless it is
// there already.
func (m *model) region(before []modelRegion, r MemRegion, file int) error {
	n := modelRegion{uint64(r.GPA), r.Size, uint64(r.UVA), area{file, int(r.Offset), int(r.Offset + r.Size)}}
	known := slices.Contains(before, n)
	if !known && (file >= memories || r.Size == 0 || r.Offset > 1<<40 || r.Size > 1<<40 || n.to > m.w.mem[file].size) {
		return fmt.Errorf("region %+v of file %d was taken", r, file)
	}
	if slices.Contains(m.regions, n) {
		return nil // once more: nothing changes
	}
	for _, o := range m.regions {
		if overlap(o.gpa, o.size, n.gpa, n.size) || overlap(o.uva, o.size, n.uva, n.size) {
			return fmt.Errorf("region %+v was taken though it overlaps %+v", n, o)
		}
	}
	m.regions = append(m.regions, n)
	return nil
}

func overlap[A uint64 | memtable.GPA](a, n, b, k A) bool {
	return a <= b && b-a < n || b <= a && a-b < k
}

func (m *model) setLog(s *sent) error {
	var l LogBase
	if err := l.UnmarshalBinary(s.payload); err != nil {
		return fmt.Errorf("SET_LOG_BASE was taken: %w", err)
	}
	file := s.file()
	if file < 0 || file >= memories || l.Size > 1<<40 || l.Offset > 1<<40 || int(l.Offset+l.Size) > m.w.mem[file].size {
		return fmt.Errorf("log %+v of file %d was taken", l, file)
	}
	m.log = area{file, int(l.Offset), int(l.Offset + l.Size)}
	return nil
}
