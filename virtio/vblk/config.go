package vblk

import (
	"encoding/binary"
	"math"

	"github.com/vhostd/vhostd/virtio"
)

// ConfigLen is the length in bytes of the configuration space, up to where this
// package knows it.
const ConfigLen = 60

// Offsets in the configuration space (virtio 1.2, 5.2.4), of what is not read
// in one go.
const (
	offWriteback = 32
	endCapacity  = 8
)

// Config is the configuration space, struct virtio_blk_config.
type Config struct {
	Capacity uint64 // sectors of 512 bytes
	SizeMax  uint32 // bytes of a buffer in a request; 0: no limit
	SegMax   uint32 // buffers in a request

	Cylinders         uint16
	Heads, TrackSects uint8 // of a cylinder, and sectors of a track

	BlockSize   uint32 // bytes; offsets and lengths are multiples of it
	PhysicalExp uint8  // a physical block has 2^PhysicalExp blocks
	AlignOffset uint8  // blocks before the first physical one
	MinIO       uint16 // blocks, below which requests are slow
	OptIO       uint32 // blocks, best in one request; 0: not told

	Writeback bool   // completed writes may be lost until they are flushed
	Queues    uint16 // request queues

	DiscardSectors, DiscardSegs uint32 // of a segment, and segments of a request
	DiscardAlign                uint32 // sectors, a hint
	ZeroesSectors, ZeroesSegs   uint32 // as for discard
	ZeroesUnmap                 bool   // Unmap may deallocate
}

// configEnd is how much of the space exists with the features f: a device need
// not tell more.
func configEnd(f virtio.Features) int {
	end := endCapacity
	for _, field := range []struct {
		f   virtio.Features
		end int
	}{
		{FeatureSizeMax, 12}, {FeatureSegMax, 16}, {FeatureGeometry, 20}, {FeatureBlkSize, 24}, {FeatureTopology, 32},
		{FeatureConfigWCE, 33}, {FeatureMQ, 36}, {FeatureDiscard, 48}, {FeatureWriteZeroes, 57},
	} {
		if f.Has(field.f) {
			end = max(end, field.end)
		}
	}
	return end
}

// ParseConfig reads the configuration space of a device with which f was agreed
// on. Fields that f does not make exist have the value that the specification
// lets a driver assume. The error is a [*ConfigError]: nothing in a Config that
// comes without one can make arithmetic in bytes overflow.
func ParseConfig(p []byte, f virtio.Features) (Config, error) {
	if len(p) < configEnd(f) {
		return Config{}, &ConfigError{"length", uint64(len(p)), "is shorter than the features promise"}
	}
	var b [ConfigLen]byte
	copy(b[:], p[:min(len(p), ConfigLen)])
	le := binary.LittleEndian
	c := Config{Capacity: le.Uint64(b[0:]), SegMax: 1, BlockSize: SectorSize, Queues: 1, Writeback: f.Has(FeatureFlush)}
	if f.Has(FeatureSizeMax) {
		c.SizeMax = le.Uint32(b[8:])
	}
	if f.Has(FeatureSegMax) {
		c.SegMax = max(le.Uint32(b[12:]), 1)
	}
	if f.Has(FeatureGeometry) {
		c.Cylinders, c.Heads, c.TrackSects = le.Uint16(b[16:]), b[18], b[19]
	}
	if f.Has(FeatureBlkSize) {
		c.BlockSize = le.Uint32(b[20:])
	}
	if f.Has(FeatureTopology) {
		c.PhysicalExp, c.AlignOffset, c.MinIO, c.OptIO = b[24], b[25], le.Uint16(b[26:]), le.Uint32(b[28:])
	}
	if f.Has(FeatureConfigWCE) {
		c.Writeback = b[offWriteback] != 0
	}
	if f.Has(FeatureMQ) {
		c.Queues = le.Uint16(b[34:])
	}
	if f.Has(FeatureDiscard) {
		c.DiscardSectors, c.DiscardSegs, c.DiscardAlign = le.Uint32(b[36:]), le.Uint32(b[40:]), le.Uint32(b[44:])
	}
	if f.Has(FeatureWriteZeroes) {
		c.ZeroesSectors, c.ZeroesSegs, c.ZeroesUnmap = le.Uint32(b[48:]), le.Uint32(b[52:]), b[56] != 0
	}
	return c, c.check()
}

// maxBlock is the largest block size that is believed, in bytes.
const maxBlock = 1 << 20

// check refuses what no disk says.
func (c Config) check() error {
	switch {
	case c.Capacity > math.MaxInt64/SectorSize:
		return &ConfigError{"capacity", c.Capacity, "is more than 8 EiB"}
	case c.BlockSize < SectorSize || c.BlockSize > maxBlock || c.BlockSize&(c.BlockSize-1) != 0:
		return &ConfigError{"blk_size", uint64(c.BlockSize), "is no power of two from 512 bytes to 1 MiB"}
	case c.SizeMax != 0 && uint64(c.SizeMax)*uint64(c.SegMax) < uint64(c.BlockSize):
		return &ConfigError{"size_max", uint64(c.SizeMax), "lets no request carry a block"}
	case c.Queues == 0:
		return &ConfigError{"num_queues", 0, "leaves no queue for requests"}
	}
	return nil
}

// AppendBinary implements [encoding.BinaryAppender], for a device: all fields,
// whatever the features.
func (c Config) AppendBinary(b []byte) ([]byte, error) {
	le := binary.LittleEndian
	b = le.AppendUint64(b, c.Capacity)
	b = le.AppendUint32(b, c.SizeMax)
	b = le.AppendUint32(b, c.SegMax)
	b = append(le.AppendUint16(b, c.Cylinders), c.Heads, c.TrackSects)
	b = le.AppendUint32(b, c.BlockSize)
	b = append(b, c.PhysicalExp, c.AlignOffset)
	b = le.AppendUint16(b, c.MinIO)
	b = le.AppendUint32(b, c.OptIO)
	b = append(b, flag(c.Writeback), 0)
	b = le.AppendUint16(b, c.Queues)
	for _, v := range []uint32{c.DiscardSectors, c.DiscardSegs, c.DiscardAlign, c.ZeroesSectors, c.ZeroesSegs} {
		b = le.AppendUint32(b, v)
	}
	return append(b, flag(c.ZeroesUnmap), 0, 0, 0), nil
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}
