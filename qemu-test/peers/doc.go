// Package peers proves both ends of vhost-user against real peers that need no
// virtual machine: the daemon against DPDK's testpmd, whose virtio_user ports are
// front-ends; and our own front-end, with the network driver on it, against
// back-ends: testpmd's net_vhost, Open vSwitch, the daemon; and the block driver
// against qemu-storage-daemon.
//
// What belongs here: driving these programs, the memory they run on, and the
// frames and sectors that go in and are compared when they come out. What does not: guests
// (they are booted one directory up) and anything that can be shown with both
// ends written in Go (the packages' own tests do that).
package peers
