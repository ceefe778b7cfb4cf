package virtio_test

import (
	"errors"
	"math"
	"testing"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// badChains offers n bad chains, each followed by good ones, and serves them. It
// stops when the ring breaks, and says after how many.
func badChains(t *testing.T, dir virtio.Dir, n, goodOnes int) (bad int, err error) {
	rig := virtiotest.New(t, virtiotest.Options{})
	for bad < n && rig.Queue.Err() == nil {
		if _, err := rig.Raw().Chain([]virtiotest.Desc{{Addr: rig.Memory.Hole(), Len: 1}}); err != nil {
			t.Fatal(err)
		}
		bad++
		for range goodOnes {
			rig.Make(good(dir))
		}
		rig.Publish()
		serve(rig, dir)
		for rig.Waiting() > 0 {
			rig.Take()
		}
	}
	return bad, rig.Queue.Err()
}

// TestManyBadChainsInARowBreakTheRing, and a thousand do not.
func TestManyBadChainsInARowBreakTheRing(t *testing.T) {
	for name, dir := range directions {
		t.Run(name, func(t *testing.T) {
			bad, err := badChains(t, dir, 1<<20, 0)
			if !errors.Is(err, virtio.ErrAbuse) || bad < 1000 {
				t.Errorf("after %d bad chains the ring's error is %v", bad, err)
			}
		})
	}
}

// TestBadChainsThatAreNotInARowBreakNothing: a good one between each two.
func TestBadChainsThatAreNotInARowBreakNothing(t *testing.T) {
	enough, err := badChains(t, virtio.Both, 1<<20, 0)
	if err == nil {
		t.Fatal("no number of bad chains breaks a ring")
	}
	for name, dir := range directions {
		t.Run(name, func(t *testing.T) {
			if bad, err := badChains(t, dir, enough+1, 1); err != nil {
				t.Errorf("after %d bad chains among good ones: %v", bad, err)
			}
		})
	}
}

// TestAHeadOfferedTwiceComesBackTwice: the device keeps no book of heads.
func TestAHeadOfferedTwiceComesBackTwice(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{})
	head := rig.Make(virtiotest.Request{In: []int{8}})
	rig.Raw().Offer(head)
	rig.Publish()
	if n := serve(rig, virtio.Writable); n != 2 {
		t.Fatalf("took %d chains", n)
	}
	if a, b := rig.Take(), rig.Take(); a.Head != head || b.Head != head {
		t.Errorf("heads %d and %d came back for %d", a.Head, b.Head, head)
	}
}

// repeated is a chain of n descriptors that all name the same memory.
func repeated(n int, d virtiotest.Desc) []virtiotest.Desc {
	list := make([]virtiotest.Desc, n)
	for i := range list {
		list[i] = d
		if i+1 < n {
			list[i].Flags, list[i].Next = virtiotest.Next, uint16(i+1)
		}
	}
	return list
}

// TestAChainIsBoundedInBytesAndPieces: 4 GiB of memory, 65535 segments.
func TestAChainIsBoundedInBytesAndPieces(t *testing.T) {
	const strip = 0x4000_0000 // eight pages that do not touch here, see Areas
	for _, c := range []struct {
		name string
		list []virtiotest.Desc
		why  string // none: it is good
	}{
		{"just under 4 GiB", repeated(4095, virtiotest.Desc{Len: 1 << 20}), ""},
		{"4 GiB", repeated(4096, virtiotest.Desc{Len: 1 << 20}), "chain longer than 4 GiB"},
		{"8191 times eight pieces", repeated(8191, virtiotest.Desc{Addr: strip, Len: 8 << 12}), ""},
		{"8192 times eight pieces", repeated(8192, virtiotest.Desc{Addr: strip, Len: 8 << 12}), "chain in too many pieces"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rig := virtiotest.New(t, virtiotest.Options{
				DriverOptions: virtiotest.DriverOptions{Size: 8192},
				Memory:        virtiotest.NewMemory(t, virtiotest.MemoryOptions{Areas: virtiotest.Areas(1 << 20)}),
			})
			if _, err := rig.Raw().Chain(c.list); err != nil {
				t.Fatal(err)
			}
			rig.Publish()
			serve(rig, virtio.Readable)
			rig.Take()
			want := map[string]uint64{}
			if c.why != "" {
				want[c.why] = 1
			}
			if got := rig.Queue.Stats().BadChains; len(got) != len(want) || got[c.why] != want[c.why] {
				t.Errorf("bad chains %v, want %v", got, want)
			}
		})
	}
}

// TestTheWalkOfATableIsBounded: a long table whose last entry leads back to its
// first.
func TestTheWalkOfATableIsBounded(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{
		DriverOptions: virtiotest.DriverOptions{Size: 2, Features: virtio.FeatureIndirect},
		Memory:        virtiotest.NewMemory(t, virtiotest.MemoryOptions{Areas: virtiotest.Areas(1 << 20)}),
	})
	list := repeated(math.MaxInt16, virtiotest.Desc{Len: 1})
	list[len(list)-1] = virtiotest.Desc{Len: 1, Flags: virtiotest.Next, Next: 0}
	table, err := rig.Raw().Table(0, list)
	if err != nil {
		t.Fatal(err)
	}
	name := virtiotest.Desc{Addr: table.Addr, Len: uint32(table.Size), Flags: virtiotest.Indirect}
	if _, err := rig.Raw().Chain([]virtiotest.Desc{name}, table); err != nil {
		t.Fatal(err)
	}
	rig.Publish()
	serve(rig, virtio.Readable)
	rig.Take()
	if got := rig.Queue.Stats().BadChains["chain longer than the ring"]; got != 1 {
		t.Errorf("bad chains %v", rig.Queue.Stats().BadChains)
	}
}
