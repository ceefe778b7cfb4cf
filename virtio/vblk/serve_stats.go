package vblk

import (
	"errors"
	"sync/atomic"
	"time"
)

// DeviceStats count what a device did since it was made.
type DeviceStats struct {
	Reads, ReadBytes   uint64
	Writes, WriteBytes uint64
	Flushes            uint64
	Discards, Zeroes   uint64
	IDs                uint64

	Failed    uint64 // the storage said no
	Refused   uint64 // IOERR: past the end, no whole sectors, read-only, of no known form
	Unknown   uint64 // UNSUPP
	Mute      uint64 // chains without room for a status
	LastError error  // of the storage
	LastAt    time.Time
}

// counters are DeviceStats as workers count.
type counters struct {
	reads, readBytes, writes, writeBytes atomic.Uint64
	flushes, discards, zeroes, ids       atomic.Uint64
	failed, refused, unknown, mute       atomic.Uint64
	last                                 atomic.Pointer[failure]
}

type failure struct {
	err error
	at  time.Time
}

// Stats may be called from any goroutine.
func (d *Device) Stats() DeviceStats {
	c := &d.count
	s := DeviceStats{
		Reads: c.reads.Load(), ReadBytes: c.readBytes.Load(), Writes: c.writes.Load(), WriteBytes: c.writeBytes.Load(),
		Flushes: c.flushes.Load(), Discards: c.discards.Load(), Zeroes: c.zeroes.Load(), IDs: c.ids.Load(),
		Failed: c.failed.Load(), Refused: c.refused.Load(), Unknown: c.unknown.Load(), Mute: c.mute.Load(),
	}
	if f := c.last.Load(); f != nil {
		s.LastError, s.LastAt = f.err, f.at
	}
	return s
}

// note counts a request that is done.
func (c *counters) note(r *request, err error) {
	switch {
	case err == nil:
		c.served(r)
	case errors.Is(err, ErrUnsupported):
		c.unknown.Add(1)
	case errors.Is(err, errRefused):
		c.refused.Add(1)
	default:
		c.failed.Add(1)
		c.last.Store(&failure{err, time.Now()})
	}
}

func (c *counters) served(r *request) {
	switch r.header.Type {
	case TypeIn:
		c.reads.Add(1)
		c.readBytes.Add(r.bytes)
	case TypeOut:
		c.writes.Add(1)
		c.writeBytes.Add(r.bytes)
	case TypeFlush:
		c.flushes.Add(1)
	case TypeDiscard:
		c.discards.Add(1)
	case TypeWriteZeroes:
		c.zeroes.Add(1)
	case TypeGetID:
		c.ids.Add(1)
	}
}
