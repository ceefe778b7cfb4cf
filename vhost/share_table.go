package vhost

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// SetPauser implements [virtio.PausingTransport]: traffic is held up while a
// back-end without memory slots, or one whose slots ran out, is given a whole
// new table. Without a Pauser the table is sent while traffic goes on.
func (f *Frontend) SetPauser(p virtio.Pauser) {
	if p == nil {
		f.pauser.Store(nil)
		return
	}
	f.pauser.Store(&p)
}

// PauseError says that memory could not change because what was lent to the
// back-end did not come back in time. Traffic goes on as before.
type PauseError struct{ Err error }

func (e *PauseError) Error() string {
	return fmt.Sprintf("the back-end holds transmit buffers and takes no memory slots, so its memory cannot change now: "+
		"use a back-end with CONFIGURE_MEM_SLOTS, or share all memory at the start: %v", e.Err)
}

func (e *PauseError) Unwrap() error { return e.Err }

// errNoRegion is what a back-end without slots cannot be told.
var errNoRegion = errors.New("the back-end takes no empty memory table: the last memory leaves with the connection")

// table gives the back-end a table that covers extents with at most so many
// regions, unless it has that already. No queue is disabled for it: a back-end
// drops frames of a disabled one.
func (f *Frontend) table(l *peerLink, extents []memtable.Extent, regions int) error {
	s := &f.share
	next, err := plan(extents, regions)
	if err != nil {
		return err
	}
	if sameRegions(next, s.regions) {
		return nil
	}
	if len(next) == 0 {
		return errNoRegion
	}
	resume, err := f.pause()
	if err != nil {
		return err
	}
	defer resume()
	return s.sendTable(l, next)
}

// pause holds the driver up, if there is one with rings that run. resume lets
// it go on, and kicks every ring: a back-end may have forgotten the kicks that
// came meanwhile.
func (f *Frontend) pause() (resume func(), err error) {
	p := f.pauser.Load()
	if p == nil || !f.started {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(f.ctx, f.cfg.Pause)
	defer cancel()
	start := time.Now()
	resume = func() {
		(*p).Resume()
		took := time.Since(start)
		f.share.stats.edit(func(s *ShareStats) {
			s.Pauses++
			s.LastPause, s.MaxPause = took, max(s.MaxPause, took)
		})
		for _, r := range f.rings {
			if r.running {
				r.line.Ring()
			}
		}
	}
	if err := (*p).Pause(ctx); err != nil {
		resume()
		return nil, &PauseError{err}
	}
	return resume, nil
}

// sendTable sends SET_MEM_TABLE and waits until it holds. When it is refused
// the back-end has what it had.
func (s *share) sendTable(l *peerLink, regions []sharedRegion) error {
	table, fds := make([]MemRegion, len(regions)), make([]int, len(regions))
	for i, r := range regions {
		table[i], fds[i] = r.MemRegion, s.fd(r)
	}
	if err := s.ack(l, func() error { return l.conn.SetMemTable(table, fds) }); err != nil {
		return err
	}
	s.set(regions)
	s.stats.edit(func(s *ShareStats) { s.Tables++ })
	return nil
}
