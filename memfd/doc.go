// Package memfd is the memory supply: where pages that are shared with a peer
// come from. It is a general allocator of memory in files that need no name, no
// mount and no root, for any Go program, with or without a peer.
//
// # What belongs here
//
//   - [Arena]: address space that is reserved once, and memory mapped into it at
//     run time, of every page size the kernel has: one file for each page size
//     and NUMA node, page i at offset i times its size, lowest first. Addresses
//     here are fixed; what is behind them comes and goes;
//   - limits, validators and events; growing and shrinking in an order that
//     lets no peer reach memory that is not shared with it, and hands out none
//     that a peer cannot reach ([Arena.Follow]);
//   - [Arena.ByIOVA], the look-up of addresses that devices are told, in the
//     same time for one page and for a million;
//   - the heap, the named zones and the pools of fixed-size buffers above it;
//   - several processes: a [Primary], and each [Secondary] that has the same
//     memory at the same addresses and keeps no books; external memory that has a
//     file as well, unless it chooses ([AttachOptions].NoExternal);
//   - external memory: what a caller has mapped, found by all look-ups and by
//     mirrors ([Arena.Register]), or lent by a heap of its own ([ExternalHeap]);
//   - legacy mode ([Options].Legacy): everything at the start, in the order of
//     physical addresses;
//   - what there is to see of all that ([Arena.Layout]), and who may look from
//     outside ([ServeInspect]).
//
// # What does not
//
// Mapping the memory of a peer and translating its addresses (memtable), telling
// a device or a peer about pages (an arena is a source, its mirrors are
// elsewhere: dma, vhost), and anything that knows what a queue is (virtio).
//
// # How memory comes and goes
//
// Limits and validators agree, the file grows, it is mapped, every mirror has
// accepted, watchers are told, and then it is handed out. Back: nothing is in
// use any more, watchers are told, every mirror has let go, look-ups do not find
// it and no worker is inside with what it found, it is unmapped, the hole is
// punched. Where a step fails on the way there, all steps are undone; on the way
// back the memory is quarantined: mapped, unused and shown.
//
// Pages come from fallocate, so a shortage is an error and never a fault. Where
// the kernel would promise memory and call the OOM killer later, which is with
// system pages, the machine and our cgroups are asked first.
//
// It imports memtable, golang.org/x/sys and the standard library.
package memfd
