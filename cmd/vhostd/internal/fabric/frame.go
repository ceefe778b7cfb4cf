package fabric

import (
	"encoding/binary"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

const (
	ethLen   = 14
	vlanLen  = 4
	maxFrame = 65535 + ethLen + 2*vlanLen // a segmentation offload's largest
)

// frame is what was decided about a frame, from one copy of its first bytes:
// what the sender writes there later does not matter.
type frame struct {
	head [ethLen]byte // delivered as they were decided on
	hdr  vnet.Header
	skip uint32 // bytes of the sender's virtio-net header
	size uint32 // of the frame
	v6   bool
	dst  mac
	src  mac
}

const (
	typeVLAN = 0x8100
	typeQinQ = 0x88a8
	typeIPv6 = 0x86dd
)

// read copies the first bytes of element i and judges them. f are the features
// of the sender.
func (m *frame) read(b *virtio.Burst, i int, f virtio.Features) (Reason, bool) {
	skip := vnet.HeaderLen(f)
	e := &b.Elem[i]
	if e.Total < uint32(skip+ethLen) {
		return Runt, false
	}
	m.skip, m.size = uint32(skip), e.Total-uint32(skip)
	if m.size > maxFrame {
		return Giant, false
	}
	var raw [vnet.MaxHeader + ethLen + 2*vlanLen]byte
	n := gather(raw[:skip+ethLen+2*vlanLen], b, i)
	m.hdr = vnet.Decode((*[10]byte)(raw[:10]))
	if v := m.hdr.Check(f, m.size); v != vnet.OK {
		return Reason(v), false
	}
	eth := raw[skip:n]
	m.head = [ethLen]byte(eth)
	m.dst, m.src = macOf(eth), macOf(eth[6:])
	if m.src.group() || m.src == 0 {
		return BadSource, false
	}
	m.v6 = etherType(eth) == typeIPv6
	return 0, true
}

// gather copies the first bytes of element i, as many as there are and fit.
func gather(dst []byte, b *virtio.Burst, i int) int {
	n := 0
	for k := 0; k < int(b.Elem[i].Segs) && n < len(dst); k++ {
		s := b.Seg(i, k)
		n += copy(dst[n:], s.VA.Bytes(uint64(s.Len)))
	}
	return n
}

// etherType gives the type behind up to two VLAN tags.
func etherType(eth []byte) uint16 {
	at := 12
	for range 2 {
		t := binary.BigEndian.Uint16(eth[at:])
		if t != typeVLAN && t != typeQinQ || at+vlanLen+2 > len(eth) {
			return t
		}
		at += vlanLen
	}
	return binary.BigEndian.Uint16(eth[at:])
}
