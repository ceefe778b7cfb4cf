package virtio_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// letter is one step of the exhaustive test.
type letter struct {
	name string
	step func(w *world) (bool, error)
}

// letters are all that either side can do with small chains.
var letters = []letter{
	{"add", func(w *world) (bool, error) { return w.add(virtiotest.Request{In: []int{3}}) }},
	{"add2", func(w *world) (bool, error) {
		return w.add(virtiotest.Request{Out: [][]byte{{1, 2}}, In: []int{5}, Shape: virtiotest.Table})
	}},
	{"publish", (*world).publish},
	{"take1", func(w *world) (bool, error) { return w.take(1, virtio.Both) }},
	{"take", func(w *world) (bool, error) { return w.take(virtio.BurstMax, virtio.Both) }},
	{"untake", func(w *world) (bool, error) { return w.untake(0) }},
	{"untake1", func(w *world) (bool, error) { return w.untake(1) }},
	{"put", func(w *world) (bool, error) { return w.put(4) }},
	{"show", (*world).show},
	{"reap", (*world).reap},
	{"arm", (*world).arm},
	{"disarm", (*world).disarm},
	{"calls", func(w *world) (bool, error) { return w.calls(true) }},
	{"no calls", func(w *world) (bool, error) { return w.calls(false) }},
	{"turn", (*world).turn},
}

// search tries every sequence of letters up to a depth. A sequence that ends in
// a step with nothing to do is not followed: it is a shorter one.
type search struct {
	rig   *virtiotest.Rig
	burst virtio.Burst
	start uint16
	feat  virtio.Features
	depth int
	tried int
}

func (s *search) from(path []int) error {
	more, err := s.play(path)
	if err != nil {
		var names []string
		for _, l := range path {
			names = append(names, letters[l].name)
		}
		return fmt.Errorf("%s: %w", strings.Join(names, ", "), err)
	}
	if !more || len(path) == s.depth {
		return nil
	}
	for l := range letters {
		if err := s.from(append(path, l)); err != nil {
			return err
		}
	}
	return nil
}

// play takes the steps of a path, and then lets both sides finish.
func (s *search) play(path []int) (more bool, err error) {
	s.tried++
	w, err := newWorld(s.rig, &s.burst, s.start, s.feat)
	if err != nil {
		return false, err
	}
	defer w.close()
	more = true
	for _, l := range path {
		if more, err = letters[l].step(w); err != nil {
			return false, err
		}
	}
	if !more {
		return false, nil
	}
	if err := w.obey(); err != nil {
		return false, err
	}
	if len(path) < s.depth {
		return true, nil // its continuations finish
	}
	return true, w.drain(virtio.Both)
}

// TestLawsHoldForEveryShortSchedule plays all interleavings of a few steps of
// both sides on the smallest rings, beside the wrap of the indices.
func TestLawsHoldForEveryShortSchedule(t *testing.T) {
	depth := 6
	if testing.Short() || raceEnabled {
		depth = 4
	}
	for _, size := range []uint16{1, 2, 4} {
		for _, f := range []virtio.Features{0, virtio.FeatureEventIdx, virtio.FeatureInOrder | virtio.FeatureIndirect} {
			t.Run(fmt.Sprintf("size=%d/%s", size, strings.Join(f.Names(virtio.Net), "+")), func(t *testing.T) {
				memory := virtiotest.NewMemory(t, virtiotest.MemoryOptions{
					Areas: []virtiotest.Area{{Addr: 0x1000, Size: 0x800}, {Addr: 0x4000, Size: 0x400}},
				})
				o := virtiotest.DriverOptions{Size: size}
				s := &search{rig: virtiotest.New(t, virtiotest.Options{DriverOptions: o, Memory: memory}), start: 0xffff, feat: f, depth: depth}
				if err := s.from(nil); err != nil {
					t.Fatal(err)
				}
				t.Logf("%d schedules", s.tried)
			})
		}
	}
}
