// Package fabric is the switch: ports that front-ends connect to, and the way a
// frame takes between them.
//
// A frame is copied once, from the sender's descriptors into the receiver's.
// Work belongs to the transmit queue it comes from: its worker takes a burst,
// decides on headers that it copied into locals, sorts the burst by
// destination, and fills one receive queue after the other. A receive queue
// has one writer at a time: it is entered through its gate, one at a time, so
// that workers cannot wait for each other in a circle.
//
// Nobody waits for a peer without a bound. A receiver without buffers is given
// a moment within the turn, once; then its frames are dropped and counted at
// the place and for the reason ([Reason]).
//
// What does not belong here: the protocol (package vhost), the rings (package
// virtio), how ports are configured and shown (the daemon).
package fabric
