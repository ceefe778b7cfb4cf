package vblk

// Stats are numbers of a disk.
type Stats struct {
	Queues     []QueueStats
	Losses     uint64 // devices that were lost: what they had not flushed may be too
	Resets     uint64 // that the device asked for
	BadConfigs uint64 // configuration spaces that could not be used
	Down       error  // why there is no device now; nil: there is
}

// QueueStats are numbers of a queue.
type QueueStats struct {
	Submitted, Completed  uint64 // requests; those that failed completed too
	Failed                uint64
	Resent                uint64 // to a device that did not know of them
	ReadBytes, WriteBytes uint64
	Flushes               uint64
	Kicks                 uint64
	Lent                  int // requests that the device has
	Err                   error
}

// count counts a request that ended.
func (s *QueueStats) count(t Type, d Done) {
	s.Completed++
	switch {
	case d.Err != nil:
		s.Failed++
	case t == TypeIn:
		s.ReadBytes += uint64(d.Bytes)
	case t == TypeOut:
		s.WriteBytes += uint64(d.Bytes)
	case t == TypeFlush:
		s.Flushes++
	}
}

// Stats tells how the disk does.
func (d *Disk) Stats() Stats {
	s := Stats{Losses: d.losses.Load(), Resets: d.resets.Load(), BadConfigs: d.badConfigs.Load()}
	if why := d.down.Load(); why != nil {
		s.Down = *why
	}
	for _, q := range d.queues {
		q.mu.Lock()
		n := q.stats
		n.Lent, n.Err = q.dq.Lent(), q.Err()
		q.mu.Unlock()
		s.Queues = append(s.Queues, n)
	}
	return s
}
