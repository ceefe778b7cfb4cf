// Package vblk is the block device's words (virtio 1.2, 5.2), and the driver
// that speaks them over any [virtio.Transport].
//
// [Open] makes a [Disk]. Its methods are for any goroutine: ReadAt and WriteAt
// copy through bounce buffers, ReadBufs and WriteBufs do not copy. What one
// request cannot carry is split. A [Queue] is for who wants many requests in
// flight and allocates nothing: one worker submits, looks, and waits.
//
// A Device is the other end: it serves a Storage, such as a File, to the driver
// of a virtual machine. vhost.Server runs it with these lines around it:
//
//	type disk struct{ *vblk.Device }
//
//	func (d disk) Spec() vhost.Spec {
//		return vhost.Spec{ID: virtio.Block, Features: d.Features(), Queues: d.Queues(), Inflight: true}
//	}
//	func (d disk) Open(*vhost.Session) (vhost.Handler, error) { return d.Attach(), nil }
//
// What belongs here is how a request, a status and the configuration space read,
// for both ends of a ring, and what a driver must know to have each buffer back
// exactly once. What does not: how rings work (package virtio), how the device
// is reached (its transports), where memory comes from (package memfd), and what
// is on the disk.
//
// # A device that is late
//
// A context that ends, ends the wait and not the request. The error is a
// [*LentError] then: the device may still read or write the buffers, until the
// channel in it is closed. Bounce buffers come back by themselves.
//
// # A device that is gone
//
// Requests that were in flight go on where the next device knows of them
// ([virtio.TransportEvent], Resumes). Where it does not they are sent again,
// flushes last. That is harmless: all requests here can be done twice, those in
// flight together have no order, and nobody was told that one of them is done.
// So that a request that kills its device does not do so for ever, one that was
// sent eight times fails with [ErrLost]; with Options.Once set, none is sent
// twice. What a device completed and had not flushed may be gone with it, as with
// the power of a disk: Stats counts the losses.
//
// # A device that lies
//
// A used ring that cannot be ends its queue: it is taken back, and what was in
// flight fails. A status that is none, or a read that is shorter than it says,
// is an error of the request. No length, offset or address of the device's is
// ever used without having been held against what was asked for.
//
// # A driver that lies
//
// A request is copied once and checked before anything is done; every one gets a
// status, in the last byte it has for it, and what the device does not fill it
// zeroes, so that the used length is true. Data goes between guest memory and
// storage without a copy, and only the kernel touches it: memory that is gone is
// an I/O error there, and ends the connection when the answer is written.
package vblk
