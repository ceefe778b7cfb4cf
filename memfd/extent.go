package memfd

import (
	"sync/atomic"

	"github.com/vhostd/vhostd/memtable"
)

// state is where an extent is on its way.
//
//	free → arriving → live → leaving → going → free
//	         idle ↗              ↘ idle
//
// An arrival that fails leaves too. What cannot be taken back is quarantined,
// from leaving (a mirror did not let go) or from going (a system call failed),
// and may be tried again.
type state uint8

const (
	free        state = iota // address space only
	idle                     // mapped, zero, and nobody's: kept for the minimum
	arriving                 // on its way to who asked for it
	live                     // somebody's
	leaving                  // nobody's any more, and mirrors are told
	going                    // nobody can reach it any more, it is unmapped
	quarantined              // nobody's, and could not be taken back
	lost                     // address space that may not be ours any more
	states                   // how many there are
)

var stateNames = [states]string{"free", "idle", "arriving", "live", "leaving", "going", "quarantined", "lost"}

func (s state) String() string { return stateNames[s] }

// slot is what is known of one extent.
type slot struct {
	state     state
	shared    bool // with mirrors: its tag
	announced bool // mirrors are being told, or know
	pages     bool // it may have memory in the file
	mapped    bool // it is mapped from the file
	listed    bool // look-ups find it
	told      bool // watchers heard that it is there
	addr      memtable.IOVA
	answer    uint64 // which of all answers addr is: another one is about other pages
	node      int    // NUMA node that its pages lie on; AnyNode: several, or nobody asked
	pins      int    // who keeps its pages where they are in physical memory
	owner     string
	seen      *atomic.Uint64 // its entry in the index of look-ups
}

// usage counts bytes by state.
type usage [states]uint64

// mapped is what counts for limits: all that has memory, or soon will.
func (u *usage) mapped() (n uint64) {
	for s, size := range u {
		if state(s) != free && state(s) != lost {
			n += size
		}
	}
	return n
}

// firm is what counts for the minimum: memory that can be used again.
func (u *usage) firm() uint64 { return u[idle] + u[arriving] + u[live] + u[leaving] }

// move puts the slots of p in a state, and counts. Arena.mu is held.
func (a *Arena) move(p part, to state) {
	c, u := p.c, p.c.count
	for i := range p.slots() {
		s := &c.slots[p.first+i]
		u[s.state] -= c.unit
		u[to] += c.unit
		c.own[s.state] -= c.unit
		c.own[to] += c.unit
		s.state = to
		if to == free || to == idle {
			s.owner, s.shared, s.announced, s.told = "", false, false, false
			c.low = min(c.low, p.first+i)
		}
		s.note()
	}
	if c.low >= p.first && c.low < p.first+p.n {
		for c.low < len(c.slots) && c.slots[c.low].state != free && c.slots[c.low].state != idle {
			c.low++
		}
	}
}

// locked runs f under Arena.mu.
func (a *Arena) locked(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}
