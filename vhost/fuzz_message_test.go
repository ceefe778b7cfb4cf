package vhost

import (
	"encoding"

	"github.com/vhostd/vhostd/memtable"
)

// tape is the bytes of a schedule; behind their end there are zeros.
type tape []byte

func (t *tape) byte() (b byte) {
	if len(*t) > 0 {
		b, *t = (*t)[0], (*t)[1:]
	}
	return b
}

func (t *tape) bytes(n int) []byte {
	b := make([]byte, n)
	*t = (*t)[copy(b, *t):]
	return b
}

// wild is a number that is usually small, sometimes at an edge.
func (t *tape) wild() uint64 {
	switch b := t.byte(); {
	case b < 0xe0:
		return uint64(b)
	case b < 0xf0:
		return 1<<(4*(b&15)) - 1
	default:
		return -uint64(b & 15)
	}
}

// Where the driver's memory lies. The first two regions touch.
const (
	fuzzUVA  = 0x7f00_0000_0000
	fuzzHigh = 1 << 32
)

// regionOf gives the region with number i of those worth trying, and its file.
func regionOf(i byte) (MemRegion, int) {
	const ram, more = 8 * guestPage, 4 * guestPage
	switch i % 8 {
	case 0:
		return MemRegion{0, ram, fuzzUVA, 0}, fileRAM
	case 1:
		return MemRegion{ram, more, fuzzUVA + ram, 0}, fileMore
	case 2:
		return MemRegion{fuzzHigh, 2 * guestPage, fuzzUVA + fuzzHigh, 0}, fileSealed
	case 3:
		return MemRegion{fuzzHigh << 1, ram / 2, fuzzUVA + fuzzHigh<<1, ram / 2}, fileRAM // memory that is seen twice
	case 4:
		return MemRegion{0, ram / 2, fuzzUVA, 0}, fileRAM
	case 5:
		return MemRegion{ram / 2, ram / 2, fuzzUVA + ram/2, ram / 2}, fileRAM
	case 6:
		return MemRegion{0x4000_0000, 100, fuzzUVA + 0x4000_0000, 8}, fileMore
	}
	return MemRegion{1<<64 - guestPage, guestPage, 1<<64 - guestPage, 0}, fileLog
}

// ringAt is where ring i lies by default: in a page of its own.
func ringAt(i int) VringAddr {
	at := fuzzUVA + memtable.UVA(i)*guestPage
	return VringAddr{Index: uint32(i), Desc: at, Avail: at + 0x400, Used: at + 0x800, Log: uint64(i)*guestPage + 0x800}
}

// message reads one from the tape: request, how, and what it says.
func (p *play) message() *sent {
	in := &p.in
	s := &sent{request: uint32(in.byte()), flags: headerFlagVersion}
	how := in.byte()
	if s.request >= 0xf0 {
		s.request = 1<<31 + s.request
	}
	if how&1 != 0 {
		s.flags |= headerFlagNeed
	}
	var natural []int
	if how&2 != 0 {
		s.payload = in.bytes(int(in.byte()))
	} else {
		s.payload, natural = p.layout(Request(s.request))
	}
	switch how >> 2 & 3 {
	case 0, 1:
		s.files = natural
	case 2:
		for range in.byte() % (maxFDs + 3) {
			s.files = append(s.files, int(in.byte())%fileCount)
		}
	}
	if how>>4&3 == 3 {
		s.flags = uint32(in.byte())
	}
	s.cut = [4]int{0, 0, 5, headerBytes}[how>>6]
	return s
}

// layout gives a payload of the request's shape, and the files that belong to it.
func (p *play) layout(r Request) (payload []byte, files []int) {
	in := &p.in
	encode := func(v encoding.BinaryAppender) []byte {
		b, _ := v.AppendBinary(nil) // what cannot be encoded goes out as nothing
		return b
	}
	switch r {
	case SetVringNum:
		i, n := in.ring(), in.byte()
		if n >= 0xe0 {
			return encode(VringState{i, uint32(n) * 257}), nil
		}
		return encode(VringState{i, 1 << (n % 7)}), nil
	case SetVringBase, SetVringEnable, GetVringBase:
		return encode(VringState{in.ring(), uint32(in.wild())}), nil
	case SetVringAddr:
		return encode(p.addr()), nil
	case SetVringKick, SetVringCall, SetVringErr:
		i, b := in.ring(), in.byte()
		files = []int{map[Request]int{SetVringKick: fileKick, SetVringCall: fileCall}[r] + int(i%4)}
		if r == SetVringErr {
			files[0] = fileErr
		}
		if b&1 != 0 {
			return encode(VringFD{uint8(i), true}), nil
		}
		return encode(VringFD{uint8(i), false}), files
	case SetMemTable:
		var t MemTable
		for range 1 + in.byte()%8 {
			region, file := in.region()
			t, files = append(t, region), append(files, file)
		}
		return encode(t), files
	case AddMemReg, RemMemReg:
		region, file := in.region()
		if r == AddMemReg {
			files = []int{file}
		}
		return encode(SingleRegion(region)), files
	case SetFeatures:
		b := uint64(in.byte())
		return encode(U64(featureVersion1 | featureProtocol&^(b>>7<<30) | b&7<<28&^featureProtocol | b>>3&1<<26 | b>>4&1<<35 | b>>5&1<<15)), nil
	case SetProtocolFeatures:
		return encode(U64(p.m.offeredProtocol()&^(uint64(in.byte())<<3) ^ uint64(in.byte())<<10)), nil
	case SetLogBase:
		return encode(LogBase{guestPage >> (in.byte() % 16), in.wild()}), []int{fileLog}
	case GetConfig, SetConfig:
		off, data := uint32(in.wild()), in.bytes(int(in.byte()%80))
		return encode(Config{off, uint32(len(data)), uint32(in.byte() & 3), data}), nil
	case SetStatus, NetSetMTU, SendRARP:
		return encode(U64(in.wild() * (1 + in.wild()))), nil
	case SetBackendReqFD:
		return nil, []int{fileSocket}
	}
	return nil, nil
}

// ring is the index of a ring, sometimes of one that is not there.
func (t *tape) ring() uint32 {
	if b := t.byte(); b >= 0xf0 {
		return uint32(b) * 17
	} else {
		return uint32(b % 4)
	}
}

// region is one of those worth trying, a little moved sometimes.
func (t *tape) region() (MemRegion, int) {
	b := t.byte()
	r, file := regionOf(b)
	switch b >> 4 {
	case 12:
		r.GPA += guestPage
	case 13:
		r.Offset += t.wild()
	case 14:
		r.Size += t.wild()
	case 15:
		r.UVA -= guestPage
	}
	return r, file
}

// addr is where a ring shall lie: in its page, or where chance wants it.
func (p *play) addr() VringAddr {
	i, how := p.in.ring(), p.in.byte()
	a := ringAt(int(i % 8))
	a.Index, a.Flags = i, uint32(how&1)
	shift := memtable.UVA(p.in.byte()) * 256
	switch how >> 4 {
	case 8:
		a.Desc += shift &^ 15
	case 9:
		a.Avail += shift
	case 10:
		a.Used += shift
	case 11:
		a.Desc, a.Avail, a.Used = a.Desc+fuzzHigh, a.Avail+fuzzHigh, a.Used+fuzzHigh
	case 12:
		a.Desc, a.Avail, a.Used = a.Desc+shift*64, a.Avail+shift*64, a.Used+shift*64
	case 13:
		a.Used -= 1 << 40
	case 14:
		a.Log = uint64(shift)
	case 15:
		a.Used = a.Desc
	}
	return a
}
