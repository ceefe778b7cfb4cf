// Package pktgen sends, receives and reflects frames through a vhost-user network
// back-end, as fast as asked for, and tells what arrived, when, and in which state.
//
// A frame is an Ethernet frame with IPv4 and UDP whose payload names the run, the
// flow, its place in the flow and the time it was sent. So a receiver in the same
// process, or in another one on the machine, can tell which are missing, came
// twice, out of order or damaged, and how long they took.
//
// There is a worker for each queue that is used. A worker allocates nothing while
// frames move; it polls, or parks when there is nothing to do.
//
// What does not belong here: the driver (virtio/vnet), what is agreed on with the
// back-end (vhost), and memory (memfd). It has no command line.
package pktgen
