// Package memflag has the switches of a command line for a program that owns
// memory: how much there is at least and at most, of which pages, on which NUMA
// nodes, and which addresses devices are told. [Flags] can be a part of a struct
// for the kong parser, or be registered with the standard library's flag
// package; [Flags.Options] makes memfd.Options of them, or says which of them
// contradict each other and why.
//
// What does not belong here: what the switches do (memfd), and how the answers of
// the machine are found (memfd, dma). It has no parser of command lines.
//
// Where EAL, DPDK's command line, has a switch of the same meaning, the
// differences are:
//
//	-m, --numa-mem      --mem-min     bytes with a unit, of one node or of each; never given back
//	--numa-limit        --mem-limit   the limit itself is allowed
//	--pagesz-mem        --page-sizes  also says which pages are preferred
//	--in-memory, --single-file-segments   always so: there is no other way here
package memflag
