// Package memfd is the memory supply: where pages that are shared with a peer
// come from.
//
// It is empty today. Nothing in the module allocates shared memory yet: the
// back-end maps what its peers send (package memtable), and tests make their own
// files.
//
// What belongs here: files made by memfd_create, with seals and with every page
// size the kernel has; the arena that reserves address space once and maps pages
// into it at run time; limits and validators, growing and shrinking; the heap,
// the named zones and the pools of fixed-size buffers above it; external memory
// and memory that several processes hold.
//
// What does not: mapping the memory of a peer and translating its addresses
// (memtable), telling a device or a peer about pages (an arena is a source, its
// mirrors are elsewhere: dma, vhost), and anything that knows what a queue is
// (virtio).
//
// It may import memtable, golang.org/x/sys and the standard library.
package memfd
