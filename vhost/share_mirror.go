package vhost

import (
	"context"
	"errors"

	"github.com/vhostd/vhostd/memtable"
)

// mirror is the Frontend as the source of memory sees it.
type mirror struct{ f *Frontend }

// Arrive implements memtable.Mirror. It is the back-end's acknowledgement that
// is waited for, or the end of its connection: then nobody can reach the
// memory, which is what the source needs to know, and the next back-end is told
// of it. When there is no way to tell all of it the error is a
// *memtable.PlanError, and what was shared before still is.
func (m mirror) Arrive(ctx context.Context, e []memtable.Extent) error {
	f := m.f
	fds, err := duplicate(e)
	if err != nil {
		return err
	}
	if err := f.take(ctx); err != nil {
		closeAll(fds)
		return err
	}
	var added []memtable.Extent
	arrive := func(l *peerLink) error {
		defer closeAll(fds)
		added = f.share.adopt(e, fds)
		err := f.grow(l, added)
		defer func() { f.share.set(f.share.regions) }()
		if err != nil && l != nil && l.conn.broken != nil {
			return nil // there is no back-end any more: the next one is told
		}
		if err != nil {
			f.share.abandon(added)
			f.share.stats.edit(func(s *ShareStats) { s.Refused++ })
		}
		return err
	}
	return f.run(ctx, arrive, func(l *peerLink) { _ = f.depart(l, added) })
}

// Leave implements memtable.Mirror. An error says that the back-end may still
// reach the memory.
func (m mirror) Leave(ctx context.Context, e []memtable.Extent) error {
	f := m.f
	return f.do(ctx, func(l *peerLink) error {
		err := f.depart(l, f.share.known(e))
		if err != nil && l != nil && l.conn.broken != nil {
			err = errLingers // until it has closed its end
		}
		if err != nil {
			f.share.stats.edit(func(s *ShareStats) { s.Refused++ })
		}
		return err
	}, nil)
}

// errLingers is why memory does not leave while the back-end that had it
// neither answers nor closes its end.
var errLingers = errors.New("the back-end does not answer, and has not closed its end of the connection: it may still reach the memory")

// grow tells the back-end of extents that were added.
func (f *Frontend) grow(l *peerLink, added []memtable.Extent) error {
	s := &f.share
	switch {
	case len(added) == 0:
		return nil
	case l == nil || !s.begun:
		_, err := plan(s.extents, s.room.regions)
		return err
	}
	l.shared = true
	switch {
	case l.slots > 0:
		return f.growSlots(l, added)
	}
	return f.table(l, s.extents, maxRegions)
}

// depart takes extents back from the back-end.
func (f *Frontend) depart(l *peerLink, gone []memtable.Extent) error {
	s := &f.share
	var err error
	switch {
	case len(gone) == 0:
		return nil
	case l == nil && f.lingers():
		return errLingers
	case l == nil || !s.begun:
	case l.slots > 0:
		err = f.shrinkSlots(l, gone)
	default:
		err = f.table(l, s.without(gone), maxRegions)
	}
	if err != nil {
		return err
	}
	s.abandon(gone)
	s.set(s.regions)
	return nil
}

// begin shares all there is with a back-end that has nothing yet. No ring is
// connected, so nothing needs to be kept reachable meanwhile.
func (s *share) begin(l *peerLink) error {
	if s.begun {
		return nil
	}
	s.room, l.shared = l.room(), len(s.extents) > 0
	var regions []sharedRegion
	var err error
	if l.slots > 0 && len(s.extents) <= l.slots/2 {
		regions, err = exact(s.extents, false)
	} else {
		regions, err = plan(s.extents, s.room.regions)
	}
	switch {
	case err != nil:
	case l.slots > 0:
		err = s.add(l, regions)
	case len(regions) > 0:
		err = s.sendTable(l, regions)
	}
	s.begun = err == nil
	return err
}

// fd is the file of a region.
func (s *share) fd(r sharedRegion) int {
	if file := s.files[r.file]; file != nil {
		return file.fd
	}
	return -1 // every region has an extent, which has a file
}
