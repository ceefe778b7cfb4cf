package vhost

import (
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Info is a snapshot of a session, for people and monitors.
type Info struct {
	ID                uint64
	Peer              string // "pid 123 uid 0"
	Since             time.Time
	Offered, Features virtio.Features
	Protocol          ProtocolFeatures
	Status            uint8
	MTU               uint16 // 0: never set
	Logging           bool   // writes are marked in the dirty log
	Memory            MemoryInfo
	Rings             []RingInfo
	Messages          []MessageInfo // the last ones, oldest first
}

// MemoryInfo is what of the peer is mapped.
type MemoryInfo struct {
	Regions []RegionInfo
	ByGPA   memtable.IndexInfo
	ByUVA   memtable.IndexInfo
	Slots   int // regions there may be
	Changed time.Time
}

// RegionInfo is one region.
type RegionInfo struct {
	GPA      memtable.GPA
	UVA      memtable.UVA
	Size     uint64
	File     memtable.FileID
	Offset   int64
	PageSize uint64
	Seals    string // "shrink,grow,seal", "none", "unsupported"
	Resident uint64 // bytes in memory now, once Session.Resident counted them
	At       string // where it is mapped
	Since    time.Time
}

// RingInfo is one ring.
type RingInfo struct {
	Index                    int
	Size                     uint16
	Started, Enabled, Polled bool
	Broken                   string // why it is not served although it was started; "": it is
	Indices                  virtio.Indices
	KickFD, CallFD, ErrFD    int // -1: none
	Desc, Avail, Used        memtable.UVA
	Kicks                    uint64 // that woke a worker, since the connection
	Stats                    virtio.Stats
}

// Info tells how the session is doing, while it runs.
func (s *Session) Info() Info {
	s.mapped.RLock() // what is looked at stays mapped
	defer s.mapped.RUnlock()
	i, memory := s.snapshot()
	for _, r := range memory.regions {
		i.Memory.Regions = append(i.Memory.Regions, regionInfo(r))
	}
	reader := s.runner.Domain().JoinFor(s, s.name+" info")
	defer reader.Close()
	for k, r := range s.rings {
		i.Rings[k].Indices = indices(r.queue, reader)
		i.Rings[k].Stats = r.queue.Stats()
	}
	return i
}

// residentMax bounds what Resident counts: a second or so of work. A peer can
// map a sparse file of any size.
const residentMax = 512 << 30

// Resident counts the pages of regions, as Info gave them, that are in memory
// now. It takes its time with a large guest; what is beyond 512 GiB, and what is
// not mapped any more, is not counted.
func (s *Session) Resident(regions []RegionInfo) {
	left := uint64(residentMax)
	for k := range regions {
		if regions[k].Size <= left {
			left -= regions[k].Size
			regions[k].Resident = s.resident(regions[k])
		}
	}
}

func (s *Session) resident(info RegionInfo) uint64 {
	s.mapped.RLock()
	defer s.mapped.RUnlock()
	_, memory := s.snapshot()
	for _, r := range memory.regions {
		if r.GPA == info.GPA && r.since.Equal(info.Since) {
			n, _ := r.mapping.Resident() // for people: an error leaves it 0
			return n
		}
	}
	return 0
}

// snapshot is what Info tells that is known without a look at memory.
func (s *Session) snapshot() (Info, *memory) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := Info{
		ID: s.id, Peer: s.peer, Since: s.since,
		Offered: s.offered, Features: s.Features(), Protocol: s.protocol,
		Status: s.status, MTU: s.mtu,
		Logging:  s.dirty != nil && s.Features().Has(virtio.FeatureLogAll),
		Memory:   MemoryInfo{Slots: maxSlots, Changed: s.memory.changed},
		Messages: s.history.list(),
	}
	if s.memory.byGPA != nil { // else the session has ended
		i.Memory.ByGPA, i.Memory.ByUVA = s.memory.byGPA.Index(), s.memory.byUVA.Index()
	}
	for _, r := range s.rings {
		i.Rings = append(i.Rings, r.info())
	}
	return i, s.memory
}

func (r *vring) info() RingInfo {
	i := RingInfo{
		Index: r.queue.Index(), Size: r.size,
		Started: r.started(), Enabled: r.enabled, Polled: r.job != nil && r.kickFD < 0,
		KickFD: r.kickFD, CallFD: r.callFD, ErrFD: r.errFD,
		Desc: r.addr.Desc, Avail: r.addr.Avail, Used: r.addr.Used, Kicks: r.kicks,
	}
	if r.job != nil {
		i.Kicks += r.job.Kicks()
	}
	_, broken := r.current()
	for _, err := range []error{r.missing, broken} {
		if err != nil {
			i.Broken = err.Error()
		}
	}
	return i
}

func regionInfo(r region) RegionInfo {
	return RegionInfo{
		GPA: r.GPA, UVA: r.UVA, Size: r.Size,
		File: r.file, Offset: int64(r.Offset), PageSize: r.mapping.PageSize(),
		Seals: sealNames(r.mapping), At: r.mapping.VA().String(), Since: r.since,
	}
}

// indices reads a ring, whose memory may vanish: then they are zero.
func indices(q *virtio.Queue, r *memtable.Reader) (i virtio.Indices) {
	r.Enter()
	defer r.Leave()
	_ = memtable.Guard(func() error { i, _ = q.Indices(r); return nil })
	return i
}

// sealNames tells how a mapping's file is sealed.
func sealNames(m *memtable.Mapping) string {
	seals, ok := m.Seals()
	if !ok {
		return "unsupported"
	}
	var names []string
	for _, s := range []struct {
		bit  int
		name string
	}{
		{unix.F_SEAL_SHRINK, "shrink"}, {unix.F_SEAL_GROW, "grow"}, {unix.F_SEAL_WRITE, "write"},
		{unix.F_SEAL_FUTURE_WRITE, "future_write"}, {unix.F_SEAL_SEAL, "seal"},
	} {
		if seals&s.bit != 0 {
			names = append(names, s.name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ",")
}
