package vnet

import "github.com/vhostd/vhostd/virtio"

// Verdict says why a frame cannot go on with its header.
type Verdict uint8

// The first are the sender's fault, the others say what the receiver lacks.
const (
	OK            Verdict = iota
	BadCsum               // the checksum lies outside the frame
	BadGSO                // segmentation without size, checksum or a known kind
	NotNegotiated         // an offload that the sender did not negotiate
	NoCsum                // the receiver did not take GUEST_CSUM
	NoTSO4                // … GUEST_TSO4
	NoTSO6                // … GUEST_TSO6
	NoECN                 // … GUEST_ECN
	NoUSO                 // … GUEST_USO4 or GUEST_USO6
	Verdicts              // how many there are
)

var verdictNames = [Verdicts]string{
	"", "bad-checksum-offset", "bad-segmentation", "offload-not-negotiated",
	"receiver-lacks-guest-csum", "receiver-lacks-guest-tso4", "receiver-lacks-guest-tso6",
	"receiver-lacks-guest-ecn", "receiver-lacks-guest-uso",
}

func (v Verdict) String() string { return verdictNames[v] }

// minHeaders is where the earliest checksum can begin: behind an Ethernet
// header.
const minHeaders = 14

// Check judges what a driver that negotiated f wrote before a frame of size
// bytes (virtio 1.2, 5.1.6.2.1). Unknown flags are ignored, as is DATA_VALID,
// which is not a driver's to say.
func (h Header) Check(f virtio.Features, size uint32) Verdict {
	if h.Flags&NeedsCsum != 0 {
		if !f.Has(FeatureCSUM) {
			return NotNegotiated
		}
		start := uint32(h.CsumStart)
		if start < minHeaders || start+uint32(h.CsumOffset)+2 > size {
			return BadCsum
		}
	}
	if h.GSOType == GSONone {
		return OK
	}
	if h.GSOSize == 0 || h.Flags&NeedsCsum == 0 || uint32(h.HdrLen) > size {
		return BadGSO
	}
	var need virtio.Features
	switch h.GSOType &^ GSOECN {
	case GSOTCPv4:
		need = FeatureHostTSO4
	case GSOTCPv6:
		need = FeatureHostTSO6
	case GSOUDPL4:
		need = FeatureHostUSO
	default:
		return BadGSO
	}
	if h.GSOType&GSOECN != 0 {
		if h.GSOType&^GSOECN == GSOUDPL4 {
			return BadGSO
		}
		need |= FeatureHostECN
	}
	if !f.Has(need) {
		return NotNegotiated
	}
	return OK
}

// Deliver gives the header that a receiver with features f is to see for a
// frame whose header passed Check, or says what the receiver lacks (virtio 1.2,
// 5.1.6.4.1). v6 says that the frame is IPv6. NumBuffers is 1.
func (h Header) Deliver(f virtio.Features, v6 bool) (Header, Verdict) {
	out := Header{NumBuffers: 1}
	if h.Flags&NeedsCsum == 0 {
		return out, OK
	}
	if !f.Has(FeatureGuestCSUM) {
		return out, NoCsum
	}
	out.Flags, out.CsumStart, out.CsumOffset = NeedsCsum, h.CsumStart, h.CsumOffset
	if h.GSOType == GSONone {
		return out, OK
	}
	out.GSOType, out.GSOSize, out.HdrLen = h.GSOType, h.GSOSize, h.HdrLen
	switch kind := h.GSOType &^ GSOECN; {
	case kind == GSOTCPv4 && !f.Has(FeatureGuestTSO4):
		return out, NoTSO4
	case kind == GSOTCPv6 && !f.Has(FeatureGuestTSO6):
		return out, NoTSO6
	case kind == GSOUDPL4 && !v6 && !f.Has(FeatureGuestUSO4), kind == GSOUDPL4 && v6 && !f.Has(FeatureGuestUSO6):
		return out, NoUSO
	case h.GSOType&GSOECN != 0 && !f.Has(FeatureGuestECN):
		return out, NoECN
	}
	return out, OK
}
