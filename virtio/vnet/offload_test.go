package vnet

import (
	"testing"

	"github.com/vhostd/vhostd/virtio"
)

const all = ^virtio.Features(0)

func TestCheckRefusesWhatASenderMayNotSay(t *testing.T) {
	tso := Header{Flags: NeedsCsum, GSOType: GSOTCPv4, GSOSize: 1448, HdrLen: 66, CsumStart: 34, CsumOffset: 16}
	with := func(change func(*Header)) Header { h := tso; change(&h); return h }
	for _, c := range []struct {
		name string
		h    Header
		f    virtio.Features
		size uint32
		want Verdict
	}{
		{"plain", Header{}, 0, 60, OK},
		{"data valid is ignored", Header{Flags: DataValid}, 0, 60, OK},
		{"checksum", Header{Flags: NeedsCsum, CsumStart: 34, CsumOffset: 16}, all, 52, OK},
		{"checksum one byte beyond", Header{Flags: NeedsCsum, CsumStart: 34, CsumOffset: 16}, all, 51, BadCsum},
		{"checksum far beyond", Header{Flags: NeedsCsum, CsumStart: 0xffff, CsumOffset: 0xffff}, all, 1500, BadCsum},
		{"checksum over the addresses", Header{Flags: NeedsCsum, CsumStart: 0, CsumOffset: 4}, all, 1500, BadCsum},
		{"checksum not negotiated", Header{Flags: NeedsCsum, CsumStart: 34, CsumOffset: 16}, all &^ FeatureCSUM, 1500, NotNegotiated},
		{"segmentation", tso, all, 9000, OK},
		{"segments of nothing", with(func(h *Header) { h.GSOSize = 0 }), all, 9000, BadGSO},
		{"segmentation without checksum", with(func(h *Header) { h.Flags = 0 }), all, 9000, BadGSO},
		{"headers longer than the frame", with(func(h *Header) { h.HdrLen = 9001 }), all, 9000, BadGSO},
		{"unknown kind", with(func(h *Header) { h.GSOType = 2 }), all, 9000, BadGSO},
		{"fragmentation offload", with(func(h *Header) { h.GSOType = 3 }), all, 9000, BadGSO},
		{"ECN for UDP", with(func(h *Header) { h.GSOType = GSOUDPL4 | GSOECN }), all, 9000, BadGSO},
		{"TSO4 not negotiated", tso, all &^ FeatureHostTSO4, 9000, NotNegotiated},
		{"TSO6 not negotiated", with(func(h *Header) { h.GSOType = GSOTCPv6 }), all &^ FeatureHostTSO6, 9000, NotNegotiated},
		{"ECN not negotiated", with(func(h *Header) { h.GSOType |= GSOECN }), all &^ FeatureHostECN, 9000, NotNegotiated},
		{"USO not negotiated", with(func(h *Header) { h.GSOType = GSOUDPL4 }), all &^ FeatureHostUSO, 9000, NotNegotiated},
	} {
		if got := c.h.Check(c.f, c.size); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestDeliverNamesWhatTheReceiverLacks(t *testing.T) {
	h := func(kind uint8) Header {
		return Header{Flags: NeedsCsum | DataValid, GSOType: kind, GSOSize: 1448, HdrLen: 66, CsumStart: 34, CsumOffset: 16}
	}
	for _, c := range []struct {
		name string
		kind uint8
		v6   bool
		lack virtio.Features
		want Verdict
	}{
		{"checksum", GSONone, false, FeatureGuestCSUM, NoCsum},
		{"TSO4", GSOTCPv4, false, FeatureGuestTSO4, NoTSO4},
		{"TSO6", GSOTCPv6, true, FeatureGuestTSO6, NoTSO6},
		{"ECN", GSOTCPv4 | GSOECN, false, FeatureGuestECN, NoECN},
		{"USO over IPv4", GSOUDPL4, false, FeatureGuestUSO4, NoUSO},
		{"USO over IPv6", GSOUDPL4, true, FeatureGuestUSO6, NoUSO},
	} {
		if _, got := h(c.kind).Deliver(all&^c.lack, c.v6); got != c.want {
			t.Errorf("%s to a receiver without it: %q, want %q", c.name, got, c.want)
		}
		out, got := h(c.kind).Deliver(all, c.v6)
		if got != OK || out.GSOType != c.kind || out.Flags != NeedsCsum || out.CsumStart != 34 {
			t.Errorf("%s to a receiver with it: %q, header %+v", c.name, got, out)
		}
	}
}

func TestDeliverHandsNothingOnThatWasNotAskedFor(t *testing.T) {
	h := Header{Flags: DataValid | 0x70, HdrLen: 99, GSOSize: 7, CsumStart: 5, CsumOffset: 6, NumBuffers: 77}
	out, v := h.Deliver(0, false)
	if v != OK || out != (Header{NumBuffers: 1}) {
		t.Fatalf("a plain frame is delivered with %+v, %q", out, v)
	}
}

// FuzzCheck: what passes Check lies inside the frame, and is delivered, or
// refused for a reason that is the receiver's.
func FuzzCheck(f *testing.F) {
	f.Add([]byte{1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0}, uint64(all), uint64(all), uint32(1500))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 34, 0, 16, 0}, uint64(1), uint64(2), uint32(52))
	f.Fuzz(func(t *testing.T, b []byte, from, to uint64, size uint32) {
		if len(b) < 10 {
			return
		}
		h := Decode((*[10]byte)(b))
		if h.Check(virtio.Features(from), size) != OK {
			return
		}
		if h.Flags&NeedsCsum != 0 && uint64(h.CsumStart)+uint64(h.CsumOffset)+2 > uint64(size) {
			t.Fatalf("checksum outside %d bytes passed: %+v", size, h)
		}
		out, v := h.Deliver(virtio.Features(to), false)
		if v == OK && out.GSOType != 0 && (out.GSOSize == 0 || out.Flags&NeedsCsum == 0) {
			t.Fatalf("delivered a segmentation nobody can do: %+v", out)
		}
		if v != OK && v < NoCsum {
			t.Fatalf("the receiver is blamed with %q", v)
		}
		var raw [MaxHeader]byte
		out.Encode(&raw)
		if back := Decode((*[10]byte)(raw[:10])); back.GSOType != out.GSOType || back.CsumStart != out.CsumStart {
			t.Fatalf("%+v was read back as %+v", out, back)
		}
	})
}
