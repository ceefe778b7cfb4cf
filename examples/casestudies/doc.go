// Casestudies replays two stories of DPDK's memory subsystem, with numbers.
//
// The first: when DPDK gave up its sorted runs of physical memory for single
// pages, drivers whose devices answer with physical addresses had to find each
// frame by a walk over all pages, and some of them lost most of their speed.
//
// The second: for a few weeks of 2018 pages were taken from the top of their file
// instead of from offset 0, which was better for the heap. The table that told a
// vhost-user back-end where memory lies took every file to be in use from its
// beginning.
//
// Both are told twice: as it was, and with the packages memtable and memfd.
package main
