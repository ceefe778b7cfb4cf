// Package guestapi is what the harness and the agent in a guest say to each
// other: JSON lines over a virtio-serial port.
//
// What belongs here: the names of the operations, their arguments and results,
// and the pseudo-random stream both ends can make. What does not: how they are
// carried out (package guest) and who asks for them (package qemutest).
//
// The guest speaks first, with a [Hello], after each boot. Then every
// [Request] gets one [Response] with its id, in any order: operations run
// concurrently.
package guestapi
