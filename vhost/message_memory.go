package vhost

import (
	"errors"
	"fmt"

	"github.com/vhostd/vhostd/memtable"
)

// MemRegion is "a memory region description": where the guest and the
// front-end see a piece of memory, and where it lies in its file.
type MemRegion struct {
	GPA    memtable.GPA
	Size   uint64
	UVA    memtable.UVA
	Offset uint64
}

func (r MemRegion) append(b []byte) []byte {
	b = order.AppendUint64(b, uint64(r.GPA))
	b = order.AppendUint64(b, r.Size)
	b = order.AppendUint64(b, uint64(r.UVA))
	return order.AppendUint64(b, r.Offset)
}

// memRegion reads the region at the front of p, which holds regionBytes.
func memRegion(p []byte) MemRegion {
	return MemRegion{
		GPA:    memtable.GPA(order.Uint64(p)),
		Size:   order.Uint64(p[8:]),
		UVA:    memtable.UVA(order.Uint64(p[16:])),
		Offset: order.Uint64(p[24:]),
	}
}

// MemTable is "a multiple memory regions description": 1 to 8 regions, of
// which only those that exist travel.
type MemTable []MemRegion

// AppendBinary implements encoding.BinaryAppender.
func (t MemTable) AppendBinary(b []byte) ([]byte, error) {
	if len(t) == 0 || len(t) > maxRegions {
		return b, fmt.Errorf("memory table of %d regions: a message carries 1 to %d", len(t), maxRegions)
	}
	b = order.AppendUint32(b, uint32(len(t)))
	b = order.AppendUint32(b, 0) // padding
	for _, r := range t {
		b = r.append(b)
	}
	return b, nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (t *MemTable) UnmarshalBinary(p []byte) error {
	if len(p) < 8 {
		return sizeError("memory table", len(p))
	}
	n := order.Uint32(p)
	if n == 0 || n > maxRegions {
		return fmt.Errorf("memory table of %d regions: a message carries 1 to %d", n, maxRegions)
	}
	if len(p) != 8+int(n)*regionBytes {
		return fmt.Errorf("memory table of %d regions in %d bytes: wrong size", n, len(p))
	}
	*t = make(MemTable, n)
	for i := range *t {
		(*t)[i] = memRegion(p[8+i*regionBytes:])
	}
	return nil
}

// SingleRegion is "a single memory region description", for memory slots.
type SingleRegion MemRegion

// AppendBinary implements encoding.BinaryAppender.
func (r SingleRegion) AppendBinary(b []byte) ([]byte, error) {
	return MemRegion(r).append(order.AppendUint64(b, 0)), nil // 8 bytes of padding first
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (r *SingleRegion) UnmarshalBinary(p []byte) error {
	if len(p) != 8+regionBytes {
		return sizeError("memory region", len(p))
	}
	*r = SingleRegion(memRegion(p[8:]))
	return nil
}

// LogBase is "a log description": which part of the file is the dirty log.
type LogBase struct{ Size, Offset uint64 }

// AppendBinary implements encoding.BinaryAppender.
func (l LogBase) AppendBinary(b []byte) ([]byte, error) {
	return order.AppendUint64(order.AppendUint64(b, l.Size), l.Offset), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (l *LogBase) UnmarshalBinary(p []byte) error {
	if len(p) != 16 {
		return sizeError("log", len(p))
	}
	*l = LogBase{order.Uint64(p), order.Uint64(p[8:])}
	return nil
}

// IOTLB is "an IOTLB message".
type IOTLB struct {
	IOVA memtable.IOVA
	Size uint64
	UVA  memtable.UVA // garbage in an invalidation
	Perm uint8        // 1 read, 2 write, 3 both
	Type uint8        // 1 miss, 2 update, 3 invalidate, 4 access fail
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. The fields fill 26
// bytes; QEMU sends the padding of its structure too.
func (t *IOTLB) UnmarshalBinary(p []byte) error {
	if len(p) != 26 && len(p) != 32 {
		return sizeError("IOTLB message", len(p))
	}
	*t = IOTLB{memtable.IOVA(order.Uint64(p)), order.Uint64(p[8:]), memtable.UVA(order.Uint64(p[16:])), p[24], p[25]}
	if t.Type < 1 || t.Type > 4 {
		return errors.New("IOTLB message of unknown type")
	}
	return nil
}
