package vhost

import (
	"encoding"
	"encoding/binary"
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
