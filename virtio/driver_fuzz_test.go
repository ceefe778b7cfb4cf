package virtio_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

const (
	inOrder  = virtio.FeatureInOrder
	eventIdx = virtio.FeatureEventIdx
	indirect = virtio.FeatureIndirect
)

// arena is a bus of some kind, and buffers for it.
type arena struct {
	*bus
	slots int
	pool  []memtable.Buf
}

// arenas are buses of sizes 1 to 64, with every combination of features.
func arenas(tb testing.TB) (all []arena) {
	for kind := range 7 * 8 {
		var f virtio.Features
		for i, bit := range []virtio.Features{inOrder, eventIdx, indirect} {
			if kind>>i&1 != 0 {
				f |= bit
			}
		}
		slots := 3 * (kind >> 2 & 1)
		b := newBus(tb, busOptions{size: 1 << (kind / 8), features: f, start: 0xfff9, slots: slots, bytes: 4096})
		all = append(all, arena{b, slots, b.bufs(tb, 8, 64, 0)})
	}
	return all
}

// TestADriverIsWhatItsModelIs with a device that uses chains in any order, or in
// batches with IN_ORDER, and keeps the rules.
func TestADriverIsWhatItsModelIs(t *testing.T) {
	all := arenas(t)
	rapid.Check(t, func(t *rapid.T) {
		a := all[rapid.IntRange(0, len(all)-1).Draw(t, "arena")]
		script := rapid.SliceOfN(rapid.Byte(), 100, 600).Draw(t, "schedule")
		if err := newDriverDuel(a.bus, a.slots, a.pool, false, script).play(); err != nil {
			t.Fatalf("features %v, size %d: %v", a.o.Features.Names(virtio.Net), a.o.Placement.Size, err)
		}
	})
}

// TestADriverGoesRoundItsRing: long schedules, in which every place of the ring
// is used again and again, with the heads in every order.
func TestADriverGoesRoundItsRing(t *testing.T) {
	dice := rand.New(rand.NewPCG(7, 8))
	for _, a := range arenas(t) {
		for range 4 {
			var script input
			for range 10 {
				script = append(script, randomScript(dice)...)
			}
			if err := newDriverDuel(a.bus, a.slots, a.pool, false, script).play(); err != nil {
				t.Fatalf("features %v, size %d: %v", a.o.Features.Names(virtio.Net), a.o.Placement.Size, err)
			}
		}
	}
}

// TestEveryStepOfADriversDuelIsTaken, so that those above and below show
// something: chains come back from honest devices, and each lie is found.
func TestEveryStepOfADriversDuelIsTaken(t *testing.T) {
	seen := make(map[string]int)
	dice := rand.New(rand.NewPCG(5, 6))
	all := arenas(t)
	for i := range 4000 {
		a := all[i%len(all)]
		d := newDriverDuel(a.bus, a.slots, a.pool, i%2 == 1, randomScript(dice))
		for len(d.in) > 0 {
			lent := len(d.m.avail)
			if err := d.step(d.in.byte() % allSteps); err != nil {
				t.Fatal(err)
			}
			if len(d.m.avail) < lent && d.m.broken == nil {
				seen["back"] += lent - len(d.m.avail)
			}
			if d.m.broken != nil {
				seen[d.m.broken.Error()]++
				if err := d.reclaim(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, what := range []string{
		"back", virtio.ErrUsedIndex.Error(), virtio.ErrUsedID.Error(), virtio.ErrNotLent.Error(),
		virtio.ErrNotHead.Error(), virtio.ErrUsedLen.Error(), virtio.ErrOrder.Error(),
	} {
		if seen[what] == 0 {
			t.Errorf("never happened: %s; what did: %v", what, seen)
		}
	}
}

// randomScript favours bytes that are steps.
func randomScript(dice *rand.Rand) input {
	script := make([]byte, 50+dice.IntN(400))
	for i := range script {
		if script[i] = byte(dice.Uint32()); dice.IntN(3) == 0 {
			script[i] %= allSteps
		}
	}
	return script
}

// FuzzUsedRing plays bytes as a schedule with a device that writes what it likes
// where it likes. Byte 0 chooses the ring.
func FuzzUsedRing(f *testing.F) {
	all := arenas(f)
	dice := rand.New(rand.NewPCG(1, 2))
	for kind := range 200 {
		f.Add(append([]byte{byte(kind)}, randomScript(dice)...))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		in := input(script)
		a := all[int(in.byte())%len(all)]
		if err := newDriverDuel(a.bus, a.slots, a.pool, true, in).play(); err != nil {
			t.Fatal(fmt.Errorf("features %v, size %d: %w", a.o.Features.Names(virtio.Net), a.o.Placement.Size, err))
		}
	})
}
