package vhost

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vhostd/vhostd/memtable"
)

// Flags of a message's header (vhost-user, "Header").
const (
	flagVersion     = 0x1 // bits 0-1
	flagVersionMask = 0x3
	flagReply       = 0x4
	flagNeedReply   = 0x8
)

const (
	headerBytes  = 12
	maxPayload   = 4096 // the largest known layout has 2056 bytes
	maxRegions   = 8    // in one SET_MEM_TABLE
	regionBytes  = 32
	configHeader = 12
	maxConfig    = 256
)

// order is the byte order on the wire: the machine's, since both ends share it.
var order = binary.NativeEndian

// decode reads m's payload as a T and blames m's request when it cannot be one.
// What T has of slices (Config.Data) lies in m and lives as long.
func decode[T any, P interface {
	*T
	encoding.BinaryUnmarshaler
}](m *message) (T, error) {
	var v T
	if err := P(&v).UnmarshalBinary(m.Payload); err != nil {
		var none T
		return none, &ProtocolError{Request(m.Request), err}
	}
	return v, nil
}

// U64 is the payload of most messages that carry one number.
type U64 uint64

// AppendBinary implements encoding.BinaryAppender.
func (u U64) AppendBinary(b []byte) ([]byte, error) { return order.AppendUint64(b, uint64(u)), nil }

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (u *U64) UnmarshalBinary(p []byte) error {
	if len(p) != 8 {
		return sizeError("u64", len(p))
	}
	*u = U64(order.Uint64(p))
	return nil
}

// VringState is "a vring state description": a ring and a number about it.
type VringState struct{ Index, Num uint32 }

// AppendBinary implements encoding.BinaryAppender.
func (s VringState) AppendBinary(b []byte) ([]byte, error) {
	b = order.AppendUint32(b, s.Index)
	return order.AppendUint32(b, s.Num), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (s *VringState) UnmarshalBinary(p []byte) error {
	if len(p) != 8 {
		return sizeError("vring state", len(p))
	}
	*s = VringState{order.Uint32(p), order.Uint32(p[4:])}
	return nil
}

// VringLog is the bit of VringAddr.Flags that asks for the used ring's writes
// to be logged (VHOST_VRING_F_LOG).
const VringLog = 1

// VringAddr is "a vring address description". On the wire used comes before
// avail.
type VringAddr struct {
	Index, Flags      uint32
	Desc, Used, Avail memtable.UVA
	Log               uint64 // guest address of the used ring, for the dirty log
}

// AppendBinary implements encoding.BinaryAppender.
func (a VringAddr) AppendBinary(b []byte) ([]byte, error) {
	b = order.AppendUint32(b, a.Index)
	b = order.AppendUint32(b, a.Flags)
	b = order.AppendUint64(b, uint64(a.Desc))
	b = order.AppendUint64(b, uint64(a.Used))
	b = order.AppendUint64(b, uint64(a.Avail))
	return order.AppendUint64(b, a.Log), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (a *VringAddr) UnmarshalBinary(p []byte) error {
	if len(p) != 40 {
		return sizeError("vring address", len(p))
	}
	*a = VringAddr{
		Index: order.Uint32(p),
		Flags: order.Uint32(p[4:]),
		Desc:  memtable.UVA(order.Uint64(p[8:])),
		Used:  memtable.UVA(order.Uint64(p[16:])),
		Avail: memtable.UVA(order.Uint64(p[24:])),
		Log:   order.Uint64(p[32:]),
	}
	return nil
}

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

// noFD is bit 8 of SET_VRING_KICK, CALL and ERR: no file comes along.
const noFD = 1 << 8

// VringFD is the number in SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR.
type VringFD struct {
	Index uint8
	NoFD  bool
}

// AppendBinary implements encoding.BinaryAppender.
func (v VringFD) AppendBinary(b []byte) ([]byte, error) {
	u := uint64(v.Index)
	if v.NoFD {
		u |= noFD
	}
	return order.AppendUint64(b, u), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. The bits that have no
// meaning yet are not looked at.
func (v *VringFD) UnmarshalBinary(p []byte) error {
	if len(p) != 8 {
		return sizeError("vring file", len(p))
	}
	u := order.Uint64(p)
	*v = VringFD{uint8(u), u&noFD != 0}
	return nil
}

// Config is "a virtio device config space": a window of it, Size = len(Data),
// at most 256 bytes.
type Config struct {
	Offset, Size, Flags uint32
	Data                []byte // of the message when decoded: copy what shall last
}

// ConfigLive is Config.Flags for a write that migration makes: read-only
// fields are written too.
const ConfigLive = 1

// AppendBinary implements encoding.BinaryAppender.
func (c Config) AppendBinary(b []byte) ([]byte, error) {
	if len(c.Data) > maxConfig || uint64(c.Size) != uint64(len(c.Data)) {
		return b, fmt.Errorf("config of size %d with %d bytes: at most %d, and as many as said", c.Size, len(c.Data), maxConfig)
	}
	b = order.AppendUint32(b, c.Offset)
	b = order.AppendUint32(b, c.Size)
	b = order.AppendUint32(b, c.Flags)
	return append(b, c.Data...), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (c *Config) UnmarshalBinary(p []byte) error {
	if len(p) < configHeader {
		return sizeError("config", len(p))
	}
	size := order.Uint32(p[4:])
	if size > maxConfig || int(size) != len(p)-configHeader {
		return fmt.Errorf("config of size %d in %d bytes: wrong size", size, len(p))
	}
	*c = Config{order.Uint32(p), size, order.Uint32(p[8:]), p[configHeader:]}
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
