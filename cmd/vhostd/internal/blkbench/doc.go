// Package blkbench reads and writes a disk through a vhost-user block back-end,
// with many requests in flight, and tells how many were done and how long each
// took. It can write patterns and hold what it reads against them.
//
// There is a worker for each queue, with a part of the disk of its own: so it
// knows what it wrote where, and no two requests in flight touch the same block.
// A worker allocates nothing for a request; it polls, or parks.
//
// What does not belong here: the driver (virtio/vblk) and what is agreed on with
// the back-end (vhost). It has no command line.
package blkbench
