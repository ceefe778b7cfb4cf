package vhost

import (
	"encoding"
	"slices"
)

// script writes a schedule, to begin fuzzing with.
type script []byte

// Byte 0 of a schedule.
const (
	playFill       = 0
	playNet        = 1
	playGoroutines = 14
)

func newScript(kind byte) *script { return &script{kind} }

func (s *script) do(b ...byte) *script { *s = append(*s, b...); return s }

// say is a message as it would be sent, acknowledged.
func (s *script) say(r Request, v encoding.BinaryAppender, files ...byte) *script {
	var p []byte
	if v != nil {
		p, _ = v.AppendBinary(nil)
	}
	s.do(stepMessage, byte(r), 1|2|2<<2, byte(len(p))).do(p...)
	return s.do(byte(len(files))).do(files...)
}

// agree is what every front-end asks and sets at first.
func (s *script) agree(without, features uint64) *script {
	protocol := U64(fuzzConfigProtocol)
	if (*s)[0]&playNet != 0 {
		protocol = fuzzNetProtocol
	}
	s.say(GetFeatures, nil).say(GetProtocolFeatures, nil).say(SetProtocolFeatures, protocol&^U64(without))
	s.say(GetQueueNum, nil).say(GetMaxMemSlots, nil).say(SetOwner, nil)
	return s.say(SetFeatures, U64(features|featureVersion1|featureProtocol))
}

// slots and table share the memory.
func (s *script) slots() *script {
	for i := range byte(3) {
		r, file := regionOf(i)
		s.say(AddMemReg, SingleRegion(r), byte(file)).say(AddMemReg, SingleRegion(r), byte(file)) // one a queue pair
	}
	return s
}

func (s *script) table() *script {
	var t MemTable
	var files []byte
	for i := range byte(3) {
		r, file := regionOf(i)
		t, files = append(t, r), append(files, byte(file))
	}
	return s.say(SetMemTable, t, files...)
}

func (s *script) num(i int) *script { return s.say(SetVringNum, VringState{uint32(i), 16}) }
func (s *script) base(i, n int) *script {
	return s.say(SetVringBase, VringState{uint32(i), uint32(n)})
}
func (s *script) addr(i int) *script { return s.say(SetVringAddr, ringAt(i)) }
func (s *script) kick(i int) *script {
	return s.say(SetVringKick, VringFD{Index: uint8(i)}, fileKick+byte(i))
}
func (s *script) call(i int) *script {
	return s.say(SetVringCall, VringFD{Index: uint8(i)}, fileCall+byte(i))
}
func (s *script) err(i int) *script { return s.say(SetVringErr, VringFD{Index: uint8(i)}, fileErr) }
func (s *script) enable(i int, on uint32) *script {
	return s.say(SetVringEnable, VringState{uint32(i), on})
}
func (s *script) stop(i int) *script { return s.say(GetVringBase, VringState{Index: uint32(i)}) }

// qemu starts all rings as QEMU does: enabled before anything else, then one by
// one.
func (s *script) qemu(share func(*script) *script, features uint64) *script {
	s.agree(0, features)
	for i := range 4 {
		s.call(i).err(i).enable(i, 1)
	}
	share(s)
	for i := range 4 {
		s.num(i).base(i, 0).addr(i).kick(i).call(i)
	}
	return s.say(SetStatus, U64(15)).say(GetStatus, nil)
}

// hypervisor starts them as Cloud Hypervisor does: sizes first.
func (s *script) hypervisor() *script {
	s.agree(0, featureEventIdx).table()
	for i := range 4 {
		s.num(i)
	}
	for i := range 4 {
		s.addr(i).base(i, 0).call(i).kick(i)
	}
	for i := range 4 {
		s.enable(i, 1)
	}
	return s
}

// dpdk starts them as virtio-user does: the owner first, calls before all.
func (s *script) dpdk() *script {
	s.say(SetOwner, nil).agree(fuzzProtocol&^protocolChannel, featureInOrder).table()
	for i := range 4 {
		s.call(i)
	}
	for i := range 4 {
		s.num(i).base(i, 0).addr(i).kick(i)
	}
	for i := range 4 {
		s.enable(i, 1)
	}
	return s
}

// traffic posts chains of every kind and has them served.
func (s *script) traffic() *script {
	s.do(stepTable, 0, 2, 50, 0, 1|1<<1, stepTable, 1, 9, 50, 2, 0)
	for i := range byte(4) {
		s.do(stepPost, i, 1+i*8, 40, 0)                              // one descriptor
		s.do(stepPost, i|2<<2, 0x20, 8, 0, 0x30, 9, 0, 0x40, 100, 0) // three
		s.do(stepPost, i, 0, 2, 10<<4)                               // an indirect table
		s.do(stepPost, i, 0, 64, 9<<4)                               // over the end of a region
		s.do(stepPost, i, 0, 64, 15<<4)                              // into nothing
	}
	for _, i := range []byte{1, 0, 3, 2} {
		s.do(stepServe, i)
	}
	return s
}

// fuzzSeeds are what front-ends say and drivers do, for both devices.
func fuzzSeeds() [][]byte {
	var all [][]byte
	for _, kind := range []byte{playFill, playNet, playGoroutines | playFill, playGoroutines | playNet} {
		for _, s := range slices.Concat(startSeeds(kind), lifeSeeds(kind), badSeeds(kind)) {
			all = append(all, *s)
		}
	}
	return all
}

// startSeeds are ways to begin.
func startSeeds(kind byte) []*script {
	return []*script{
		newScript(kind).qemu((*script).slots, 0).traffic(),
		newScript(kind).qemu((*script).table, featureEventIdx|featureIndirect).traffic().traffic(),
		newScript(kind).hypervisor().traffic(),
		newScript(kind).dpdk().traffic(),
		newScript(kind).do(stepHello, 3, stepStart, 1, 2, stepStart, 0, 12).traffic(),
		newScript(kind).do(stepHello, 12, stepStart, 1, 5, stepStart, 0, 5).traffic(),
	}
}

// lifeSeeds are what comes after the beginning.
func lifeSeeds(kind byte) []*script {
	var all []*script
	begun := func() *script {
		s := newScript(kind).qemu((*script).slots, featureIndirect).traffic()
		all = append(all, s)
		return s
	}
	begun().stop(0).stop(1).base(0, 5).kick(0).kick(1).traffic()
	logged := ringAt(1)
	logged.Flags = VringLog
	begun().say(SetLogBase, LogBase{64, 0}, fileLog).say(SetFeatures, U64(featureIndirect|featureVersion1|featureProtocol|featureLogAll)).
		say(SetVringAddr, logged).traffic().say(SetLogBase, LogBase{128, 64}, fileLog).traffic()
	begun().say(SetStatus, U64(0)).stop(0).say(ResetDevice, nil).enable(1, 1).num(1).addr(1).base(1, 0).kick(1).traffic()
	begun().say(ResetOwner, nil).traffic().enable(1, 1).traffic()
	begun().table().traffic()
	r, file := regionOf(0)
	begun().say(RemMemReg, SingleRegion(r)).traffic().say(AddMemReg, SingleRegion(r), byte(file)).traffic()
	begun().say(SetBackendReqFD, nil, fileSocket).do(stepTell).say(SetBackendReqFD, nil, fileSocket).stop(1)
	begun().say(GetConfig, Config{0, 8, 0, make([]byte, 8)}).say(SetConfig, Config{32, 1, 0, []byte{1}}).say(SetConfig, Config{32, 1, 1, []byte{1}})
	begun().say(NetSetMTU, U64(1500)).say(SendRARP, U64(0x1234)).do(stepInfo).enable(1, 0).traffic()
	begun().say(SetVringKick, VringFD{1, true}).traffic().say(SetVringCall, VringFD{1, true}).call(1).kick(1).traffic()
	begun().do(stepReconnect).hypervisor().traffic()
	// A kick that goes to the old file is not lost.
	begun().do(stepPost, 1, 1, 40, 0, stepKick, 1).say(SetVringKick, VringFD{Index: 1}, fileErr).do(stepTurn)
	return all
}

// badSeeds are front-ends that nobody should trust.
func badSeeds(kind byte) []*script {
	var all []*script
	begun := func() *script {
		s := newScript(kind).do(stepHello, 0, stepStart, 1, 6, stepStart, 0, 6)
		all = append(all, s)
		return s
	}
	begun().do(stepResize, fileRAM, 0).traffic().do(stepReconnect, stepHello, 0)
	begun().do(stepResize, fileRAM, 4, stepPost, 1, 1, 40, 0, stepServe, 1, stepInfo)
	r := MemRegion{0, guestPage, fuzzUVA + fuzzHigh<<2, 0}
	begun().say(AddMemReg, SingleRegion(r), fileMore).say(RemMemReg, SingleRegion(r)).traffic() // as the first, but smaller
	begun().num(1).base(1, 7).say(SetFeatures, U64(featureInOrder|featureVersion1|featureProtocol)).traffic()
	all = append(all, newScript(kind).say(SetFeatures, U64(1<<34)).do(stepHello, 1).say(SetFeatures, U64(1<<34|featureVersion1)))
	begun().do(stepIndex, 1, 200, stepServe, 1).stop(1).kick(1)
	begun().do(stepPost, 0xf1, 9, 9, 0, 99, stepServe, 1)
	begun().do(stepPoke, fileRAM, 0x14, 2, 1, 7, 0, stepServe, 1, stepTurn)
	begun().do(stepJam, 5, stepPost, 1, 1, 40, 0, stepServe, 1).stop(1).do(stepDrain, 5)
	for _, f := range []byte{filePipe, fileNull, fileDisk, fileEmpty, fileReaders, fileLog, fileSocket} {
		r, _ := regionOf(2)
		begun().say(SetVringKick, VringFD{Index: 1}, f).say(SetVringCall, VringFD{Index: 1}, f).say(SetVringErr, VringFD{Index: 1}, f).
			say(AddMemReg, SingleRegion(r), f).say(SetLogBase, LogBase{64, 0}, f).say(SetBackendReqFD, nil, f)
	}
	for r := range byte(GetShmemConfig + 2) {
		begun().do(stepMessage, r, 1, 0, 0, 0, 0, stepMessage, r, 0xc0, 0, 0, 0, 0).traffic()
	}
	begun().do(stepRaw, 12).do(packet(GetFeatures, flagVersion, nil)...).do(stepRaw, 5, 1, 2, 3, 4, 5)
	begun().do(stepRaw, 12).do(packet(GetFeatures, 2, nil)...)
	begun().do(stepMessage, byte(SetMemTable), 1|2<<2, 0, 0, 11).do(make([]byte, 11)...)
	return all
}
