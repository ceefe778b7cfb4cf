package virtio

// Publish shows the device all that was added (virtio 1.2, 2.7.13). A device
// that broke the queue is shown nothing any more.
func (q *DriverQueue) Publish() {
	if q.added == q.published || q.broken.Load() != nil {
		return
	}
	// Descriptors, tables and heads go before the index.
	q.ring.storeAvail(q.quiet, uint16(q.added))
	q.published = q.added
}

// Kick tells the device of what was published since the last Kick, unless it
// wants not to be told; rang is whether it did. It makes a system call at most
// where the transport has one.
func (q *DriverQueue) Kick() (rang bool) {
	if q.bell == nil || q.published == q.kicked && !q.fresh {
		return false
	}
	// The store of the index is ordered before the loads of wanted.
	rang = q.fresh || q.wanted()
	q.kicked, q.fresh = q.published, false
	if rang {
		q.bell.Ring()
	}
	return rang
}

// wanted decides on a kick (virtio 1.2, 2.7.10).
func (q *DriverQueue) wanted() bool {
	if !q.event {
		flags, _ := q.ring.usedWord()
		return flags&usedNoNotify == 0
	}
	// From 2^16 chains on, every event was passed.
	return q.published-q.kicked > 0xffff ||
		needEvent(q.ring.availEvent(), uint16(q.published), uint16(q.kicked))
}

// Arm asks the device for a call with the next chain that comes back. work is
// true if it is too late to wait for one: chains are there already, or the
// queue is broken.
func (q *DriverQueue) Arm() (work bool) {
	if q.event {
		q.ring.storeUsedEvent(uint16(q.reaped))
	} else if q.quiet != 0 {
		q.quiet = 0
		q.ring.storeAvail(0, uint16(q.published))
	}
	// What asks is seen before we look: either we see the chain, or the device
	// sees that we asked.
	return q.ready() > 0 || q.broken.Load() != nil
}

// Disarm asks the device for no calls: the worker looks by itself. With
// EVENT_IDX there is nothing to do, an event that lies behind asks for nothing;
// one call may come still.
func (q *DriverQueue) Disarm() {
	if !q.event && q.quiet == 0 {
		q.quiet = availNoInterrupt
		q.ring.storeAvail(q.quiet, uint16(q.published))
	}
}
