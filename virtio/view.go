package virtio

import "github.com/vhostd/vhostd/memtable"

// Doorbell tells the driver that something was used. Ring never blocks and may
// be called after the doorbell was closed.
type Doorbell interface{ Ring() }

// Position is where a queue goes on, as GET_VRING_BASE carries it: for a split
// ring the next available index in the low 16 bits, the rest zero.
type Position uint32

// Unlogged hears of a queue's first write, n bytes at gpa, that the dirty log has
// no place for: what is migrated by that log is not the guest's memory. It is
// called by the worker, in its section, so it must not block.
type Unlogged func(gpa memtable.GPA, n uint64)

// View is all that control may change about a queue. It must not be changed
// once it was configured.
type View struct {
	Ring     Ring
	Features Features
	Mem      *memtable.Table[memtable.GPA]
	Log      *memtable.Log // where guest writes are marked; nil: nowhere
	Unlogged Unlogged      // nil: writes without a place in Log are only counted
	LogUsed  bool          // writes to the used ring are marked too (VHOST_VRING_F_LOG)
	UsedLog  memtable.GPA  // log_guest_addr: the used ring's address in the log
	Inflight *Record       // where chains are marked while they are taken; nil: nowhere
	Call     Doorbell      // nil: the driver is never called
	Enabled  bool          // SET_VRING_ENABLE
}

// Dir says which descriptors a device wants in a chain.
type Dir uint8

// The directions of a chain, as the device sees it.
const (
	Readable Dir = iota + 1 // all are for the device to read (net: transmitq)
	Writable                // all are for the device to write (net: receiveq)
	Both                    // readable ones, then writable ones
)

// Admission is the answer to [Queue.Begin].
type Admission uint8

// What a worker is told at a queue's door.
const (
	Stopped Admission = iota // no view, or the ring is broken
	Busy                     // another worker is inside a shared queue
	Open
)
