// Package probe asks a vhost-user back-end what it can do, and judges the
// answers: what it offers, how long each answer takes, and what about it is
// unusual and for whom.
//
// It only asks. No memory is shared and no ring is started; what it tells the
// back-end (an owner, features, a ring disabled that never ran) dies with the
// connection. A message that makes the back-end hang up costs a connection, and
// the rest is asked on a new one.
//
// What does not belong here: the messages and their framing (package vhost), and
// what drivers do with a back-end that is sound (virtio/vnet, virtio/vblk).
package probe
