// Package peers proves vhostd against real peers that need no virtual machine:
// DPDK's testpmd, whose virtio_user ports are the front-ends.
//
// What belongs here: driving dpdk-testpmd, the memory it runs on, and the frames
// that go in and are compared when they come out. What does not: guests (they
// are booted one directory up) and anything that can be shown with a front-end
// written in Go (package vhost's own tests do that).
package peers
