package virtio_test

import (
	"math/rand/v2"
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// FuzzRing plays bytes as a schedule: what a driver writes into its ring, its
// tables and anywhere else in its memory, and what the device does between. The
// duel (duel_test.go) says what must be.
//
// Byte 0 chooses the ring, each step is one byte and what it wants after it.
func FuzzRing(f *testing.F) {
	for _, seed := range seeds() {
		f.Add(seed)
	}
	memory := virtiotest.NewMemory(f, virtiotest.MemoryOptions{Areas: []virtiotest.Area{
		{Addr: 0, Size: 0x1000}, {Addr: 0x1000, Size: 0x1000}, {Addr: 0x1_0000_0000, Size: 0x1000},
	}})
	var rigs [8]*virtiotest.Rig
	for i := range rigs {
		o := virtiotest.DriverOptions{Size: 1 << (i % 4), OddAvail: i >= 4}
		rigs[i] = virtiotest.New(f, virtiotest.Options{DriverOptions: o, Memory: memory, Log: i == 0})
	}
	var burst virtio.Burst
	f.Fuzz(func(t *testing.T, script []byte) {
		d := newDuel(rigs, memory, &burst, input(script))
		defer d.close()
		if err := d.play(); err != nil {
			t.Fatal(err)
		}
	})
}

// input is the bytes of a schedule; behind their end there are zeros.
type input []byte

func (in *input) byte() (b byte) {
	if len(*in) > 0 {
		b, *in = (*in)[0], (*in)[1:]
	}
	return b
}

// addr is an address that is worth trying: in each region, at the edges, in
// holes, at the end of all.
func (in *input) addr() memtable.GPA {
	b := in.byte()
	low := memtable.GPA(b&0x3f) << 4
	switch b >> 6 {
	case 0:
		return 0x0c08 + low // runs into the region that touches
	case 1:
		return 0x1c00 + low // into a hole
	case 2:
		return 0x1_0000_0000 + low
	}
	return low - 0x200 // wraps around
}

// length is a length that is worth trying.
func (in *input) length() uint32 {
	switch b := in.byte(); b >> 6 {
	case 0:
		return uint32(b)
	case 1:
		return uint32(b&0x3f) * 16 // a table's
	case 2:
		return uint32(b&0x3f) << 7
	default:
		return -uint32(b & 0x3f)
	}
}

// desc is a descriptor. Its next is near the table's end or in it.
func (in *input) desc() virtiotest.Desc {
	d := virtiotest.Desc{Addr: in.addr(), Len: in.length()}
	b := in.byte()
	d.Flags, d.Next = uint16(b&7), uint16(b>>3)&15
	if b>>3 == 31 {
		d.Next, d.Flags = 0xffff, d.Flags|0x8000
	}
	return d
}

// The steps of a schedule, as FuzzRing reads them.
const (
	stepDesc = iota
	stepTable
	stepOffer
	stepPublish
	stepIndex
	stepPoke
	stepEvents
	stepTake
	stepUntake
	stepPut
	stepShow
	stepArm
	stepDisarm
	stepTurn
	stepReset
	steps
)

// seeds are schedules that use every step, to begin with.
func seeds() [][]byte {
	plain := []byte{stepDesc, 0, 0, 8, 0, stepOffer, 0, stepPublish, stepTake, 8, stepPut, 3, stepShow, stepArm, stepTurn}
	chain := []byte{stepDesc, 0, 0x3f, 40, 1 | 1<<3, stepDesc, 1, 0x80, 9, 2, stepOffer, 0, stepPublish, stepTake, 8, stepPut, 200, stepShow}
	table := []byte{
		stepTable, 0x3f, 0x80, 16, 1 | 1<<3, stepTable, 0x40, 0x81, 30, 2, stepDesc, 0, 0x3f, 0x42, 4, stepOffer, 0, stepPublish,
		stepTake, 8, stepUntake, 0, stepTake, 1, stepPut, 255, stepShow, stepDisarm,
	}
	loop := []byte{stepDesc, 0, 0, 8, 1, stepOffer, 0, stepPublish, stepTake, 8, stepPut, 0, stepShow}
	jump := []byte{stepIndex, 200, stepTake, 8, stepTurn, stepReset, stepOffer, 99, stepPublish, stepTake, 1, stepTurn, stepReset}
	poke := []byte{stepPoke, 0, 7, 255, stepPoke, 1, 3, 1, stepEvents, 1, 5, stepOffer, 0, stepPublish, stepTake, 3, stepPut, 1, stepShow}
	var all [][]byte
	for kind := range byte(96) {
		for _, s := range [][]byte{plain, chain, table, loop, jump, poke} {
			if int(kind)%6 == len(s)%6 { // not all of all
				all = append(all, append([]byte{kind * 3}, s...))
			}
		}
	}
	// And what comes of chance: most steps make sense in most states.
	dice := rand.New(rand.NewPCG(2, 7))
	for range 200 {
		script := make([]byte, 50+dice.IntN(400))
		for i := range script {
			script[i] = byte(dice.Uint32())
			if dice.IntN(3) == 0 {
				script[i] %= steps
			}
		}
		all = append(all, script)
	}
	return all
}
