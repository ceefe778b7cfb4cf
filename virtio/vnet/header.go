package vnet

import (
	"encoding/binary"

	"github.com/vhostd/vhostd/virtio"
)

// Feature bits of the network device (virtio 1.2, 5.1.3).
const (
	FeatureCSUM          virtio.Features = 1 << 0
	FeatureGuestCSUM     virtio.Features = 1 << 1
	FeatureMTU           virtio.Features = 1 << 3
	FeatureGuestTSO4     virtio.Features = 1 << 7
	FeatureGuestTSO6     virtio.Features = 1 << 8
	FeatureGuestECN      virtio.Features = 1 << 9
	FeatureHostTSO4      virtio.Features = 1 << 11
	FeatureHostTSO6      virtio.Features = 1 << 12
	FeatureHostECN       virtio.Features = 1 << 13
	FeatureMrgRxbuf      virtio.Features = 1 << 15
	FeatureGuestAnnounce virtio.Features = 1 << 21
	FeatureMQ            virtio.Features = 1 << 22
	FeatureGuestUSO4     virtio.Features = 1 << 54
	FeatureGuestUSO6     virtio.Features = 1 << 55
	FeatureHostUSO       virtio.Features = 1 << 56
)

// Header flags (virtio 1.2, 5.1.6).
const (
	NeedsCsum = 1
	DataValid = 2
)

// Kinds of segmentation; ECN is or-ed to them.
const (
	GSONone  = 0
	GSOTCPv4 = 1
	GSOTCPv6 = 4
	GSOUDPL4 = 5
	GSOECN   = 0x80
)

// MaxHeader is the longest header this package reads or writes.
const MaxHeader = 12

// Header is the part of struct virtio_net_hdr that frames carry here.
type Header struct {
	Flags      uint8
	GSOType    uint8
	HdrLen     uint16 // bytes of protocol headers; a hint
	GSOSize    uint16 // payload bytes per segment
	CsumStart  uint16
	CsumOffset uint16
	NumBuffers uint16 // receiveq only
}

// HeaderLen is the header's length in bytes with the features negotiated.
func HeaderLen(f virtio.Features) int {
	if f&(virtio.FeatureVersion1|FeatureMrgRxbuf) != 0 {
		return 12
	}
	return 10
}

// Decode reads the first 10 bytes of a header.
func Decode(b *[10]byte) Header {
	return Header{
		Flags: b[0], GSOType: b[1],
		HdrLen:     binary.LittleEndian.Uint16(b[2:]),
		GSOSize:    binary.LittleEndian.Uint16(b[4:]),
		CsumStart:  binary.LittleEndian.Uint16(b[6:]),
		CsumOffset: binary.LittleEndian.Uint16(b[8:]),
	}
}

// Encode writes all 12 bytes; a legacy driver is given the first 10.
func (h Header) Encode(b *[MaxHeader]byte) {
	b[0], b[1] = h.Flags, h.GSOType
	binary.LittleEndian.PutUint16(b[2:], h.HdrLen)
	binary.LittleEndian.PutUint16(b[4:], h.GSOSize)
	binary.LittleEndian.PutUint16(b[6:], h.CsumStart)
	binary.LittleEndian.PutUint16(b[8:], h.CsumOffset)
	binary.LittleEndian.PutUint16(b[10:], h.NumBuffers)
}
