package virtio

import (
	"slices"
	"sync/atomic"

	"github.com/vhostd/vhostd/memtable"
)

// counters are written by the worker once a burst and read by anyone.
type counters struct {
	bursts, chains, bytes atomic.Uint64
	calls, quiet, lost    atomic.Uint64
	reasons               [len(chainErrors)]atomic.Uint64
	last                  atomic.Uint32 // 1 + the last reason
}

func (c *counters) put(chains int, bytes uint64) {
	c.bursts.Add(1)
	c.chains.Add(uint64(chains))
	c.bytes.Add(bytes)
}

func (c *counters) called()     { c.calls.Add(1) }
func (c *counters) suppressed() { c.quiet.Add(1) }

// unlogged counts a write without a place in the log; first: there was none before.
func (c *counters) unlogged() (first bool) { return c.lost.Add(1) == 1 }

// bad counts a bad chain by its reason, as an Elem has it.
func (c *counters) bad(reason uint8) {
	c.reasons[reason-1].Add(1)
	c.last.Store(uint32(reason))
}

// reasonOf gives an error of chainErrors as an Elem has it.
func reasonOf(err error) uint8 {
	return uint8(1 + slices.Index(chainErrors[:], err))
}

// Stats counts what a queue did since it was made.
type Stats struct {
	Bursts, Chains, Bytes  uint64            // put; Bytes is the sum of used lengths
	Calls, CallsSuppressed uint64            // doorbell rung, or not wanted
	Unlogged               uint64            // writes that the dirty log had no place for
	BadChains              map[string]uint64 // by reason; nil when there were none
	LastBad                string            // the last of them
}

// Stats may be called from any goroutine.
func (q *Queue) Stats() Stats {
	c := &q.stats
	s := Stats{
		Bursts: c.bursts.Load(), Chains: c.chains.Load(), Bytes: c.bytes.Load(),
		Calls: c.calls.Load(), CallsSuppressed: c.quiet.Load(), Unlogged: c.lost.Load(),
	}
	for i := range c.reasons {
		if n := c.reasons[i].Load(); n > 0 {
			if s.BadChains == nil {
				s.BadChains = make(map[string]uint64)
			}
			s.BadChains[chainErrors[i].Error()] = n
		}
	}
	if i := c.last.Load(); i > 0 {
		s.LastBad = chainErrors[i-1].Error()
	}
	return s
}

// Indices is what both sides wrote into the ring, beside the worker's cursor.
type Indices struct {
	LastAvail, LastUsed             uint16 // the worker's
	AvailFlags, AvailIdx, UsedEvent uint16 // the driver's
	UsedFlags, UsedIdx, AvailEvent  uint16 // the device's
}

// Indices reads the ring of the current view for people to look at; ok is false
// when the queue is stopped. It may fault (see memtable.Guard), and r must be
// inside its section.
func (q *Queue) Indices(r *memtable.Reader) (i Indices, ok bool) {
	shown := q.shown.Load()
	i.LastAvail, i.LastUsed = uint16(shown>>16), uint16(shown)
	v := q.view.Load(r)
	if v == nil {
		return i, false
	}
	w := wordsOf(v.Ring)
	i.AvailFlags, i.AvailIdx = w.availWord()
	i.UsedFlags, i.UsedIdx = w.usedWord()
	i.UsedEvent, i.AvailEvent = w.usedEvent(), w.availEvent()
	return i, true
}

// UsedIndex reads used.idx from a ring that passed [Ring.Check]. It may fault.
func UsedIndex(r Ring) uint16 {
	w := wordsOf(r)
	_, idx := w.usedWord()
	return idx
}
