package virtio

// Put writes a used element for each chain of b, in the order in which they were
// taken (which IN_ORDER demands). The driver sees them when they are published.
func (q *Queue) Put(b *Burst) {
	if b.N == 0 {
		return
	}
	first, bytes := q.used, uint64(0)
	for i := range b.N {
		e := &b.Elem[i]
		q.ring.putUsed(first+uint16(i), e.Head, e.Wrote)
		bytes += uint64(e.Wrote)
		if e.bad == 0 {
			q.badRun = 0
			continue
		}
		q.stats.bad(e.bad)
		if q.badRun++; q.badRun >= badRunMax {
			q.fail("put chain", e.Head, ErrAbuse)
		}
	}
	if q.cur.Log != nil {
		q.logBurst(b, first)
	}
	if q.cur.Inflight != nil {
		q.batch(b)
	}
	q.used += uint16(b.N)
	q.taken -= uint16(b.N)
	q.stats.put(b.N, bytes)
	b.N = 0
}

// Publish shows the driver what was put, and says whether it wants a call.
func (q *Queue) Publish() (call bool) {
	if q.used == q.published {
		return false
	}
	q.published = q.used
	q.ring.storeUsed(q.quiet, q.used)
	if q.cur.Inflight != nil {
		q.settled()
	}
	if q.cur.LogUsed {
		q.logUsed(0, 4) // flags and idx
	}
	call = q.wanted()
	q.called = q.published
	if !call {
		q.stats.suppressed()
	}
	return call
}

// wanted decides on a call (virtio 1.2, 2.7.7). The store of the used index is
// ordered before these loads.
func (q *Queue) wanted() bool {
	if q.event {
		return needEvent(q.ring.usedEvent(), q.published, q.called)
	}
	flags, _ := q.ring.availWord()
	return flags&availNoInterrupt == 0
}

// needEvent says whether an index that went from old to now passed event.
func needEvent(event, now, old uint16) bool {
	return now-event-1 < now-old
}

// Call rings the driver's doorbell.
func (q *Queue) Call() {
	if bell := q.cur.Call; bell != nil {
		bell.Ring()
		q.stats.called()
	}
}

// Arm asks the driver for a kick with the next chain, and says whether chains
// were there already: then the queue stays armed, but the worker must go on.
// What Next handed out counts as finished, and is published before.
func (q *Queue) Arm() (work bool) {
	q.settle()
	if q.event {
		q.ring.storeAvailEvent(q.next)
		if q.cur.LogUsed {
			q.logUsed(uint64(q.ring.availEventOffset()), 2)
		}
	} else {
		q.setQuiet(0)
	}
	_, idx := q.ring.availWord()
	return (idx != q.next || q.redone < len(q.again)) && q.broken.Load() == nil
}

// Disarm asks the driver not to kick: the worker looks by itself. With EVENT_IDX
// there is nothing to do, an event that lies behind asks for nothing.
func (q *Queue) Disarm() {
	if !q.event {
		q.setQuiet(usedNoNotify)
	}
}

// setQuiet writes used.flags where they change.
func (q *Queue) setQuiet(flags uint16) {
	if now, _ := q.ring.usedWord(); now == flags {
		q.quiet = flags
		return
	}
	q.quiet = flags
	q.ring.storeUsed(flags, q.published)
	if q.cur.LogUsed {
		q.logUsed(0, 4)
	}
}
