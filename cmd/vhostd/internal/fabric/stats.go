package fabric

// Counts are frames and bytes; bytes without the virtio-net header.
type Counts struct {
	InFrames, InBytes   uint64 // from the front-end
	OutFrames, OutBytes uint64 // to the front-end
}

// QueueStats are the counts of one queue pair.
type QueueStats struct {
	Pair int
	Counts
}

// PortStats count since the port was made, over all its connections.
type PortStats struct {
	Counts
	Queues []QueueStats
	Drops  map[string]uint64 // by reason
}

// Stats may be called at any time.
func (p *Port) Stats() PortStats {
	s := PortStats{Drops: p.drops.named()}
	for i := range p.queues {
		q := &p.queues[i]
		c := Counts{q.inFrames.Load(), q.inBytes.Load(), q.outFrames.Load(), q.outBytes.Load()}
		s.Queues = append(s.Queues, QueueStats{i, c})
		s.InFrames += c.InFrames
		s.InBytes += c.InBytes
		s.OutFrames += c.OutFrames
		s.OutBytes += c.OutBytes
	}
	return s
}
