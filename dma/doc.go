// Package dma makes memory reachable by a device, and says at which address.
//
// Today it answers which addresses those are: [DetectMode] chooses between IOVA
// as virtual address and IOVA as physical address, and [Pagemap] knows physical
// addresses. Nothing in the module drives a device of its own yet.
//
// What belongs here: the choice of the IOVA mode; the physical addresses of our
// pages; the containers, groups and functions of VFIO, iommufd, and devices
// without an IOMMU; their interrupts. A container is a mirror of a source of
// memory: it maps what the source hands out, before it is handed out, and unmaps
// what the source takes back, before it is freed. While it has memory mapped, that
// memory cannot move (memtable.Pinner).
//
// What does not: where the pages come from (memfd), what the bytes mean (virtio
// and the packages below it), and the registers of a virtio device on the PCI bus
// (virtio/pci, when there is one).
//
// It may import memtable, golang.org/x/sys and the standard library.
package dma
