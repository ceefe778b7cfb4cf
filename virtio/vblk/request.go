package vblk

import (
	"encoding/binary"
	"fmt"

	"github.com/vhostd/vhostd/virtio"
)

// Feature bits of the block device (virtio 1.2, 5.2.3).
const (
	FeatureSizeMax     virtio.Features = 1 << 1
	FeatureSegMax      virtio.Features = 1 << 2
	FeatureGeometry    virtio.Features = 1 << 4
	FeatureRO          virtio.Features = 1 << 5
	FeatureBlkSize     virtio.Features = 1 << 6
	FeatureFlush       virtio.Features = 1 << 9
	FeatureTopology    virtio.Features = 1 << 10
	FeatureConfigWCE   virtio.Features = 1 << 11
	FeatureMQ          virtio.Features = 1 << 12
	FeatureDiscard     virtio.Features = 1 << 13
	FeatureWriteZeroes virtio.Features = 1 << 14
)

// Sizes on the ring, in bytes.
const (
	SectorSize = 512 // of the unit that sectors are counted in, whatever the block size
	HeaderLen  = 16  // what the device reads first; its status is the last byte it writes
	SegmentLen = 16
	IDLen      = 20
)

// Type is what a request asks for (virtio 1.2, 5.2.6).
type Type uint32

// The types of requests.
const (
	TypeIn          Type = 0  // read
	TypeOut         Type = 1  // write
	TypeFlush       Type = 4  // what was written and completed before becomes durable
	TypeGetID       Type = 8  // the device's name, 20 bytes
	TypeDiscard     Type = 11 // sectors are not needed any more
	TypeWriteZeroes Type = 13 // sectors read as zero
)

// String gives the specification's name, in lower case.
func (t Type) String() string {
	switch t {
	case TypeIn:
		return "in"
	case TypeOut:
		return "out"
	case TypeFlush:
		return "flush"
	case TypeGetID:
		return "get_id"
	case TypeDiscard:
		return "discard"
	case TypeWriteZeroes:
		return "write_zeroes"
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// writes says whether a request changes what is on the disk.
func (t Type) writes() bool { return t == TypeOut || t == TypeDiscard || t == TypeWriteZeroes }

// fills says whether the device writes the data, rather than reads it.
func (t Type) fills() bool { return t == TypeIn || t == TypeGetID }

// Header is struct virtio_blk_req up to its data.
type Header struct {
	Type   Type
	Sector uint64 // where TypeIn and TypeOut begin; otherwise 0
}

// Encode writes the header.
func (h Header) Encode(b *[HeaderLen]byte) {
	binary.LittleEndian.PutUint32(b[0:], uint32(h.Type))
	binary.LittleEndian.PutUint32(b[4:], 0) // reserved
	binary.LittleEndian.PutUint64(b[8:], h.Sector)
}

// DecodeHeader reads a header.
func DecodeHeader(b *[HeaderLen]byte) Header {
	return Header{Type(binary.LittleEndian.Uint32(b[0:])), binary.LittleEndian.Uint64(b[8:])}
}

// Status is how a request ended, the last byte that the device writes.
type Status uint8

// What a device says.
const (
	StatusOK     Status = 0
	StatusIOErr  Status = 1
	StatusUnsupp Status = 2
)

// err is what a driver makes of a status.
func (s Status) err() error {
	switch s {
	case StatusOK:
		return nil
	case StatusIOErr:
		return ErrIO
	case StatusUnsupp:
		return ErrUnsupported
	}
	return ErrStatus
}

// Unmap is the flag of a segment of TypeWriteZeroes: the sectors may be
// deallocated.
const Unmap = 1

// Segment is struct virtio_blk_discard_write_zeroes, the data of TypeDiscard and
// TypeWriteZeroes.
type Segment struct {
	Sector  uint64
	Sectors uint32
	Flags   uint32
}

// Encode writes the segment.
func (s Segment) Encode(b *[SegmentLen]byte) {
	binary.LittleEndian.PutUint64(b[0:], s.Sector)
	binary.LittleEndian.PutUint32(b[8:], s.Sectors)
	binary.LittleEndian.PutUint32(b[12:], s.Flags)
}

// DecodeSegment reads a segment.
func DecodeSegment(b *[SegmentLen]byte) Segment {
	return Segment{
		binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:]),
	}
}
