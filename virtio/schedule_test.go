package virtio_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// kinds are the rings that the random schedules run on.
type kind struct {
	size  uint16
	odd   bool
	file  bool
	log   bool
	start uint16
	feat  virtio.Features
	dir   virtio.Dir
}

func drawKind(t *rapid.T) kind {
	k := kind{
		size:  1 << rapid.IntRange(0, 9).Draw(t, "log2 of the size"),
		odd:   rapid.Bool().Draw(t, "avail at 2 modulo 4"),
		file:  rapid.Bool().Draw(t, "memory in a file"),
		log:   rapid.Bool().Draw(t, "dirty log"),
		start: rapid.OneOf(rapid.Just(uint16(0)), rapid.Uint16Min(0xfff0), rapid.Uint16()).Draw(t, "start"),
		dir:   rapid.SampledFrom([]virtio.Dir{virtio.Readable, virtio.Writable, virtio.Both}).Draw(t, "direction"),
	}
	for _, f := range []virtio.Features{virtio.FeatureIndirect, virtio.FeatureEventIdx, virtio.FeatureInOrder} {
		if rapid.Bool().Draw(t, fmt.Sprint(f.Names(virtio.Net))) {
			k.feat |= f
		}
	}
	return k
}

// rigs keeps a rig for each kind of memory: a schedule restarts it.
type rigs map[kind]*virtiotest.Rig

func (r rigs) get(t *testing.T, k kind) *virtiotest.Rig {
	key := kind{size: k.size, odd: k.odd, file: k.file, log: k.log}
	if r[key] == nil {
		o := virtiotest.DriverOptions{Size: k.size, OddAvail: k.odd}
		r[key] = virtiotest.New(t, virtiotest.Options{DriverOptions: o, File: k.file, Log: k.log})
	}
	return r[key]
}

// drawRequest is a chain for a queue of direction dir.
func drawRequest(t *rapid.T, dir virtio.Dir) (r virtiotest.Request) {
	size := rapid.OneOf(rapid.IntRange(0, 40), rapid.SampledFrom([]int{1, 1500, 4096, 9000}))
	r.Shape = rapid.SampledFrom([]virtiotest.Shape{virtiotest.Chained, virtiotest.Table, virtiotest.Tail}).Draw(t, "shape")
	r.Across = rapid.Bool().Draw(t, "across regions")
	if dir != virtio.Writable {
		for i, n := range rapid.SliceOfN(size, 0, 4).Draw(t, "readable") {
			p := make([]byte, n)
			for k := range p {
				p[k] = byte(k*7 + i + n)
			}
			r.Out = append(r.Out, p)
		}
	}
	if dir != virtio.Readable {
		r.In = rapid.SliceOfN(size, 0, 4).Draw(t, "writable")
	}
	if len(r.Out)+len(r.In) == 0 {
		r.Out = [][]byte{{42}}
		if dir == virtio.Writable {
			r.Out, r.In = nil, []int{42}
		}
	}
	return r
}

// TestLawsHoldForRandomSchedules lets both sides take random steps with random
// chains on random rings.
func TestLawsHoldForRandomSchedules(t *testing.T) {
	made := rigs{}
	var burst virtio.Burst
	rapid.Check(t, func(rt *rapid.T) {
		k := drawKind(rt)
		w, err := newWorld(made.get(t, k), &burst, k.start, k.feat)
		if err != nil {
			rt.Fatal(err)
		}
		defer w.close()
		number := func(name string, most int) int { return rapid.IntRange(0, most).Draw(rt, name) }
		act := func(step func() (bool, error)) func(*rapid.T) {
			return func(rt *rapid.T) {
				if did, err := step(); err != nil {
					rt.Fatal(err)
				} else if !did {
					rt.Skip("nothing to do")
				}
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"add":      act(func() (bool, error) { return w.add(drawRequest(rt, k.dir)) }),
			"add more": act(func() (bool, error) { return w.add(drawRequest(rt, k.dir)) }),
			"publish":  act(w.publish),
			"take":     act(func() (bool, error) { return w.take(number("take", virtio.BurstMax+1), k.dir) }),
			"untake":   act(func() (bool, error) { return w.untake(number("untake from", len(w.taken))) }),
			"put":      act(func() (bool, error) { return w.put(number("write", 10000)) }),
			"show":     act(w.show),
			"reap":     act(w.reap),
			"arm":      act(w.arm),
			"disarm":   act(w.disarm),
			"calls":    act(func() (bool, error) { return w.calls(true) }),
			"no calls": act(func() (bool, error) { return w.calls(false) }),
			"turn":     act(w.turn),
			"": func(rt *rapid.T) {
				if err := w.obey(); err != nil {
					rt.Fatal(err)
				}
			},
		})
		if err := w.drain(k.dir); err != nil {
			rt.Fatal(err)
		}
	})
}

// TestIndicesWrap fills and empties rings of every size while both indices go
// over their 16 bits.
func TestIndicesWrap(t *testing.T) {
	largest := uint16(virtio.MaxSize)
	if raceEnabled {
		largest = 512 // one goroutine: there is nothing for the race detector
	}
	for size := uint16(1); size != 0 && size <= largest; size *= 2 {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			rig := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: size}})
			var burst virtio.Burst
			w, err := newWorld(rig, &burst, -size-size/2, virtio.FeatureEventIdx)
			if err != nil {
				t.Fatal(err)
			}
			defer w.close()
			for range 3 {
				for range size {
					if did, err := w.add(virtiotest.Request{In: []int{2}}); err != nil || !did {
						t.Fatalf("a chain for each descriptor: added %v, %v", did, err)
					}
				}
				if err := w.drain(virtio.Writable); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
