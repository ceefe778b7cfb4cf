// Package virtio is how it moves: feature bits and virtqueues.
//
// A [Queue] is the device's side of one virtqueue: it takes descriptor chains
// that a driver made available, and puts them back as used. A [DriverQueue] is
// the driver's side, over any [Transport]. What belongs here
// is what every device type shares: the ring formats, the checks a hostile
// driver makes necessary, notification suppression, the dirty log of what the
// device wrote. What a frame, a sector or a packet is belongs to the packages
// below (vnet and its siblings); how two processes agree on where a ring lies
// belongs to package vhost.
//
// # Control and worker
//
// Everything control may change about a queue is one immutable [View]. Control
// publishes a view with [Queue.Configure] and then waits for the worker's
// domain; when the wait ends nobody uses the old one. The cursor (what was
// taken, what was put) is the worker's alone, between [Queue.Begin] and
// [Queue.End].
//
// # The steps of a burst
//
// Take, Untake, Put, Publish and Call are separate. Take validates and
// translates without touching guest memory beyond the descriptors. Untake
// gives back a suffix of the burst as if it had never been taken. Put writes
// used elements the driver cannot see yet, Publish shows them and says whether
// the driver wants a call, Call makes it.
//
// # Trust
//
// A driver is hostile until proven otherwise, and is never proven. A
// descriptor is copied into a local once, validated there and used from
// there. A bad chain under a valid head costs the chain: it goes back with
// length 0 and is counted. A bad head or index breaks the ring, see
// [RingError]. Memory that vanishes is a fault of the mapping's owner, see
// package memtable.
//
// A driver trusts its device no more than that. See [DriverQueue].
package virtio
