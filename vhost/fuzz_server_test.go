package vhost

import (
	"encoding/binary"
	"testing"
)

// FuzzServer plays bytes as a schedule: what a front-end says to a server that
// has real files, and what its driver writes into the memory between. What must
// be is written down once more here, from the specification (fuzz_model_test.go,
// fuzz_reply_test.go), and held against what happens:
//
//   - every message has its reply, or none, or costs the connection;
//   - heads come back once, in order, and with no more bytes than they had room for;
//   - nothing is written but buffers, used rings and the log, which misses no page;
//   - a healthy ring that was kicked is served;
//   - afterwards nothing is left open or mapped, and the server serves the next.
//
// Byte 0 chooses the device and who serves it, each step is one byte and what it
// wants after it.
func FuzzServer(f *testing.F) {
	for _, seed := range fuzzSeeds() {
		f.Add(seed)
	}
	w := newWorld(f)
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 4096 {
			return
		}
		w.reset(t)
		p := newPlay(t, w, script)
		p.run()
		p.end()
	})
}

// The steps of a schedule.
const (
	stepMessage = iota
	stepRaw
	stepPost
	stepTable
	stepServe
	stepTurn
	stepPoke
	stepIndex
	stepResize
	stepJam
	stepDrain
	stepReconnect
	stepTell
	stepInfo
	stepHello
	stepStart
	stepKick
	steps
)

// run plays the steps.
func (p *play) run() {
	for limit := 0; len(p.in) > 0 && limit < 200; limit++ {
		p.step(p.in.byte() % steps)
	}
}

func (p *play) step(kind byte) {
	in := &p.in
	switch kind {
	case stepMessage:
		p.say(p.message())
	case stepRaw:
		p.raw(in.bytes(int(in.byte() % 64)))
	case stepPost:
		p.post(int(in.byte()))
	case stepTable:
		p.table(int(in.byte()))
	case stepServe:
		p.kick(int(in.byte() % 4))
		p.turn()
	case stepKick:
		p.kick(int(in.byte() % 4))
	case stepTurn:
		p.turn()
	case stepPoke:
		file, off := int(in.byte()%memories), int(in.byte())<<8|int(in.byte())
		p.w.write(file, off, in.bytes(int(in.byte()%8)+1))
	case stepIndex:
		i, idx := in.byte()%4, uint16(in.wild())
		if _, avail, _, ok := p.m.placed(&p.m.rings[i]); ok {
			p.w.put16(avail.file, avail.from+2, idx)
		}
	case stepResize:
		p.w.resize(int(in.byte()%memories), int(in.byte()%9))
	case stepJam:
		if i := fileKick + int(in.byte())%(eventfdEnd-fileKick); !p.jammed {
			p.w.jam(i)
			p.jammed = true // each costs milliseconds
		}
	case stepDrain:
		p.w.drain(fileKick + int(in.byte())%(eventfdEnd-fileKick))
	case stepReconnect:
		p.hangUp()
		p.connect()
	case stepTell:
		if p.alive {
			_ = p.d.current().NotifyConfig()
		}
	case stepInfo:
		s := p.d.current()
		i := s.Info()
		s.Resident(i.Memory.Regions)
	case stepHello:
		p.hello(in.byte())
	case stepStart:
		p.start(int(in.byte()%4), in.byte())
	}
}

// post writes a chain into the table of a ring and makes it available.
func (p *play) post(how int) {
	i := how % 4
	var descs [][]byte
	for range how>>2&3 + 1 {
		descs = append(descs, p.descriptor(i))
	}
	lie := -1 // the same head again, or one that is not there
	if how>>4 == 15 {
		lie = int(p.in.byte())
	}
	r := &p.m.rings[i]
	desc, avail, _, ok := p.m.placed(r)
	if !ok {
		return
	}
	idx := p.w.u16(avail.file, avail.from+2)
	head := int(idx) % r.size
	descs = descs[:min(len(descs), r.size-head)]
	for k, d := range descs {
		if k+1 < len(descs) {
			link(d, head+k+1)
		}
		p.w.write(desc.file, desc.from+16*(head+k), d)
	}
	if lie >= 0 {
		head = lie
	}
	p.w.put16(avail.file, avail.from+4+2*(int(idx)%r.size), uint16(head))
	p.w.put16(avail.file, avail.from+2, idx+1)
}

// link makes d go on at next.
func link(d []byte, next int) {
	binary.LittleEndian.PutUint16(d[12:], binary.LittleEndian.Uint16(d[12:])|1)
	binary.LittleEndian.PutUint16(d[14:], uint16(next))
}

// descriptor reads one from the tape. Most lie in a page of buffers.
func (p *play) descriptor(ring int) []byte {
	a, n, f := p.in.byte(), p.in.byte(), p.in.byte()
	addr, size := uint64(4+ring%2)*guestPage+uint64(a)*16, uint32(n)
	flags := uint16(2)
	if p.m.net && ring%2 == 1 {
		flags = 0
	}
	switch f >> 4 {
	case 9:
		addr = 8*guestPage - 16 // runs into the next region
	case 10:
		addr, size = uint64(6)*guestPage+uint64(a&15)*16, uint32(n%8)*16
		flags |= 4
	case 11:
		addr += fuzzHigh
	case 12:
		addr -= 5 * guestPage // into rings, or around the end
	case 13:
		size = -size
	case 14:
		size *= 64
	case 15:
		addr = 12*guestPage - 16 // into the hole
	}
	flags ^= uint16(f & 2)
	if f&15 == 15 {
		flags ^= 4
	}
	b := binary.LittleEndian.AppendUint64(nil, addr)
	b = binary.LittleEndian.AppendUint32(b, size)
	b = binary.LittleEndian.AppendUint16(b, flags)
	return binary.LittleEndian.AppendUint16(b, 0)
}

// table writes a descriptor of the indirect tables, which fill a page.
func (p *play) table(slot int) {
	d := p.descriptor(slot >> 6)
	if next := p.in.byte(); next&1 != 0 {
		link(d, int(next>>1))
	}
	p.w.write(fileRAM, 6*guestPage+slot%16*16, d)
}

// hello is all that is said before rings are set up. How says what of it.
func (p *play) hello(how byte) {
	tell := func(r Request, payload []byte, files ...int) {
		flags := uint32(headerFlagVersion)
		if how&1 == 0 {
			flags |= headerFlagNeed
		}
		p.say(&sent{uint32(r), flags, payload, files, 0})
	}
	u64 := func(v uint64) []byte { return order.AppendUint64(nil, v) }
	tell(SetProtocolFeatures, u64(p.m.offeredProtocol()))
	features := uint64(featureVersion1 | featureProtocol)
	if how&2 != 0 {
		features |= featureEventIdx | featureIndirect
	}
	if how&4 != 0 {
		features |= featureLogAll | featureIndirect
		log, _ := LogBase{Size: 64}.AppendBinary(nil)
		tell(SetLogBase, log, fileLog)
	}
	tell(SetFeatures, u64(features))
	if how&8 != 0 {
		a, f0 := regionOf(0)
		b, f1 := regionOf(1)
		table, _ := MemTable{a, b}.AppendBinary(nil)
		tell(SetMemTable, table, f0, f1)
		return
	}
	for i := range byte(3) {
		r, file := regionOf(i)
		slot, _ := SingleRegion(r).AppendBinary(nil)
		tell(AddMemReg, slot, file)
	}
}

// start sets ring i up and starts it.
func (p *play) start(i int, how byte) {
	tell := func(r Request, payload []byte, files ...int) {
		p.say(&sent{uint32(r), headerFlagVersion | headerFlagNeed, payload, files, 0})
	}
	state := func(n uint32) []byte {
		b, _ := VringState{uint32(i), n}.AppendBinary(nil)
		return b
	}
	file := func(none bool) []byte {
		b, _ := VringFD{uint8(i), none}.AppendBinary(nil)
		return b
	}
	addr := ringAt(i)
	addr.Flags = uint32(how & 1)
	where, _ := addr.AppendBinary(nil)
	tell(SetVringNum, state(1<<(how>>1&3+1)))
	tell(SetVringBase, state(uint32(p.m.rings[i].next)))
	tell(SetVringAddr, where)
	if how&8 != 0 {
		tell(SetVringKick, file(true))
	} else {
		tell(SetVringKick, file(false), fileKick+i)
	}
	tell(SetVringCall, file(false), fileCall+i)
	tell(SetVringEnable, state(1))
}
