package vhost

import (
	"errors"
	"slices"
	"time"

	"github.com/vhostd/vhostd/memtable"
)

// growSlots adds regions for extents that arrived: one for each, so that each
// can leave by itself, while there are slots enough, and else one for those that
// touch. No ring notices. When slots run out the table is compacted.
func (f *Frontend) growSlots(l *peerLink, added []memtable.Extent) error {
	s := &f.share
	added = slices.DeleteFunc(slices.Clone(added), func(e memtable.Extent) bool {
		return slices.ContainsFunc(s.regions, func(r sharedRegion) bool { return r.holds(e) })
	})
	if len(added) == 0 {
		return nil
	}
	fresh, err := exact(added, len(s.regions)+len(added) > l.slots/2)
	if err != nil {
		return err
	}
	// A region that could not be taken back once may lie where one arrives now.
	stale := slices.ContainsFunc(s.regions, func(r sharedRegion) bool { return slices.ContainsFunc(added, r.touches) })
	if stale || len(s.regions)+len(fresh) > l.slots {
		return f.table(l, s.extents, min(l.slots, maxRegions))
	}
	return s.add(l, fresh)
}

// shrinkSlots removes the regions that hold nothing any more. One that holds
// other memory too cannot change its shape while it is announced; then the
// whole table is made anew, if that leaves no more memory reachable than there
// was.
func (f *Frontend) shrinkSlots(l *peerLink, gone []memtable.Extent) error {
	s := &f.share
	rest := s.without(gone)
	var empty []sharedRegion
	split := false
	for _, r := range s.regions {
		switch {
		case !slices.ContainsFunc(rest, r.touches):
			empty = append(empty, r)
		case slices.ContainsFunc(gone, r.touches):
			split = true
		}
	}
	if !split {
		return s.remove(l, empty)
	}
	next, err := plan(rest, min(l.slots, maxRegions))
	if err != nil {
		return err
	}
	if sharedBytes(next) >= sharedBytes(s.regions) {
		return errHeld
	}
	return f.table(l, rest, min(l.slots, maxRegions))
}

// errHeld is memory that cannot leave alone.
var errHeld = errors.New("the memory is in a region with other memory that is in use, and the back-end takes no table in which it is not")

// add sends ADD_MEM_REG for each region and waits until all are acknowledged. If
// one is refused those before it are taken back.
func (s *share) add(l *peerLink, regions []sharedRegion) error {
	for i, r := range regions {
		err := s.ack(l, func() error { return l.conn.AddMemReg(r.MemRegion, s.fd(r)) })
		if err != nil {
			if l.conn.broken == nil {
				_ = s.remove(l, regions[:i]) // what is left is shown as waste
			}
			return err
		}
		s.set(append(slices.Clone(s.regions), r))
		s.stats.edit(func(s *ShareStats) { s.Adds++ })
	}
	return nil
}

// remove sends REM_MEM_REG for each region and waits until all are
// acknowledged. What was removed before one is refused stays removed.
func (s *share) remove(l *peerLink, regions []sharedRegion) error {
	for _, r := range regions {
		if err := s.ack(l, func() error { return l.conn.RemMemReg(r.MemRegion) }); err != nil {
			return err
		}
		s.set(slices.DeleteFunc(slices.Clone(s.regions), func(o sharedRegion) bool { return o == r }))
		s.stats.edit(func(s *ShareStats) { s.Rems++ })
	}
	return nil
}

// ack sends a message about memory and waits until it holds.
func (s *share) ack(l *peerLink, send func() error) error {
	start := time.Now()
	err := send()
	if err == nil {
		err = l.barrier()
	}
	if err == nil {
		took := time.Since(start)
		s.stats.edit(func(s *ShareStats) { s.LastAck, s.MaxAck = took, max(s.MaxAck, took) })
	}
	return err
}
