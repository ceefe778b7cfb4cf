package virtio_test

import (
	"fmt"

	"github.com/vhostd/vhostd/virtio"
)

// What holds between any two steps of a world. Other laws are part of the steps:
// heads come back in order, once, with what was written (reap, and the driver's
// own checks); un-take touches nothing (untake); kick and call are asked for as
// the specification says (publish, show).
var laws = []struct {
	law   string
	check func(w *world) error
}{
	{"nothing is written outside writable descriptors", func(w *world) error { return w.rig.Memory.Verify() }},
	{"the driver sees what was published, and nothing else", func(w *world) error {
		return equal("chains to reap", w.rig.Waiting(), len(w.shown))
	}},
	{"every chain is in one place", func(w *world) error {
		places := len(w.added) + len(w.avail) + len(w.taken) + len(w.hidden) + len(w.shown)
		return equal("chains the driver lacks", w.rig.Lent(), places)
	}},
	{"a well-behaved driver's ring is whole", func(w *world) error { return w.q.Err() }},
	{"what was put is counted", func(w *world) error {
		s := w.q.Stats()
		if s.Chains != w.chains || s.Bytes != w.bytes {
			return fmt.Errorf("stats say %d chains, %d bytes; %d and %d were put", s.Chains, s.Bytes, w.chains, w.bytes)
		}
		return nil
	}},
	{"only bad chains are counted as bad", func(w *world) error {
		var n uint64
		for _, k := range w.q.Stats().BadChains {
			n += k
		}
		return equal("bad chains", n, w.bad)
	}},
	{"both sides' indices are where they were left", func(w *world) error {
		i, ok := w.q.Indices(w.rig.Reader)
		if !ok || i.AvailIdx != w.availIdx || i.UsedIdx != w.usedIdx {
			return fmt.Errorf("indices %+v (%v), want available %d and used %d", i, ok, w.availIdx, w.usedIdx)
		}
		return nil
	}},
}

func equal[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: %v, want %v", what, got, want)
	}
	return nil
}

// obey checks all laws.
func (w *world) obey() error {
	for _, l := range laws {
		if err := l.check(w); err != nil {
			return fmt.Errorf("law broken: %s: %w", l.law, err)
		}
	}
	return nil
}

// drain lets both sides finish: every chain comes back.
func (w *world) drain(dir virtio.Dir) error {
	if _, err := w.publish(); err != nil {
		return err
	}
	for len(w.avail)+len(w.taken)+len(w.hidden)+len(w.shown) > 0 {
		for _, step := range []func() (bool, error){
			func() (bool, error) { return w.put(8) },
			func() (bool, error) { return w.take(virtio.BurstMax, dir) },
			func() (bool, error) { return w.put(8) },
			w.show, w.reap,
		} {
			if _, err := step(); err != nil {
				return err
			}
		}
	}
	if err := equal("chains the driver lacks in the end", w.rig.Lent(), 0); err != nil {
		return err
	}
	if err := equal("free descriptors in the end", w.rig.Free(), int(w.rig.Size)); err != nil {
		return err
	}
	return w.obey()
}
