package vhost

import (
	"sync"
	"time"

	"github.com/vhostd/vhostd/memtable"
)

// ShareStats tell operators how memory is shared.
type ShareStats struct {
	Regions, Max        int    // that the back-end has, and may have
	Slots               bool   // it takes memory slots: no change pauses traffic
	Used, Shared        uint64 // bytes in extents, and in regions
	Generation          uint64 // changes of what the back-end has
	Adds, Rems, Tables  uint64 // ADD_MEM_REG, REM_MEM_REG and SET_MEM_TABLE that were acknowledged
	Refused             uint64 // changes that failed; what was shared before still is
	Pauses              uint64
	LastPause, MaxPause time.Duration // that traffic was held up for
	LastAck, MaxAck     time.Duration // from a change's message to its acknowledgement
}

// Waste is how many bytes the back-end can reach though nothing is in them.
func (s ShareStats) Waste() uint64 { return s.Shared - min(s.Used, s.Shared) }

// shareStats is ShareStats for several goroutines.
type shareStats struct {
	mu sync.Mutex
	ShareStats
}

// edit changes the statistics, or reads them.
func (s *shareStats) edit(do func(s *ShareStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do(&s.ShareStats)
}

// count tells of a table, sorted by address.
func (s *shareStats) count(regions []sharedRegion, extents []memtable.Extent, room limits) {
	s.edit(func(s *ShareStats) {
		s.Regions, s.Max, s.Slots = len(regions), room.regions, room.slots > 0
		s.Used, s.Shared = 0, 0
		for _, r := range regions {
			s.Shared += r.Size
		}
		for _, e := range extents {
			if r, ok := regionAt(regions, memtable.GPA(e.Addr), e.Size); ok && r.holds(e) {
				s.Used += e.Size
			}
		}
		s.Generation++
	})
}
