package virtio_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

var directions = map[string]virtio.Dir{"readable": virtio.Readable, "writable": virtio.Writable, "both": virtio.Both}

// good is a chain that a queue of direction dir serves.
func good(dir virtio.Dir) virtiotest.Request {
	if dir == virtio.Writable {
		return virtiotest.Request{In: []int{16}}
	}
	return virtiotest.Request{Out: [][]byte{[]byte("a good chain")}}
}

// serve is a device: it takes all there is, fills what is writable and puts it.
func serve(rig *virtiotest.Rig, dir virtio.Dir) (taken int) {
	var b virtio.Burst
	rig.Stay(func(q *virtio.Queue) {
		for q.Take(&b, dir, virtio.BurstMax) > 0 {
			taken += b.N
			for i := range b.N {
				_, writable := segs(&b, i)
				for _, s := range writable {
					b.Elem[i].Wrote += uint32(copy(s, "what the device writes, and it writes all of it"))
				}
			}
			q.Put(&b)
			q.Publish()
		}
	})
	return taken
}

// forEachTrick runs f for the tricks that fit, on a ring of 4.
func forEachTrick(t *testing.T, f func(t *testing.T, rig *virtiotest.Rig, dir virtio.Dir, trick virtiotest.Trick)) {
	for name, dir := range directions {
		for _, feat := range []virtio.Features{0, virtio.FeatureIndirect} {
			for _, trick := range virtiotest.Tricks(dir) {
				if !trick.Fits(feat) {
					continue
				}
				t.Run(fmt.Sprintf("%s/indirect=%v/%s", name, feat != 0, trick.Name), func(t *testing.T) {
					rig := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: 4, Features: feat, Start: 0xfffe}})
					f(t, rig, dir, trick)
				})
			}
		}
	}
}

// TestABadChainCostsTheChain: its head comes back with length 0, is counted by
// its reason, and the chains around it are served.
func TestABadChainCostsTheChain(t *testing.T) {
	forEachTrick(t, func(t *testing.T, rig *virtiotest.Rig, dir virtio.Dir, trick virtiotest.Trick) {
		if trick.Breaks {
			return
		}
		heads := []uint16{rig.Make(good(dir))}
		if err := trick.Play(rig.Raw()); err != nil {
			t.Fatal(err)
		}
		rig.Make(good(dir))
		rig.Publish()
		if n := serve(rig, dir); n != 3 {
			t.Errorf("took %d chains of 3", n)
		}
		if first := rig.Take(); first.Head != heads[0] {
			t.Errorf("head %d came first, not %d", first.Head, heads[0])
		}
		if bad := rig.Take(); bad.Len != 0 {
			t.Errorf("the bad chain came back with length %d", bad.Len)
		}
		if last := rig.Take(); dir == virtio.Writable && last.Len != 16 {
			t.Errorf("the good chain behind it came back with length %d", last.Len)
		}
		s := rig.Queue.Stats()
		if len(s.BadChains) != 1 || s.BadChains[trick.Why] != 1 || s.LastBad != trick.Why {
			t.Errorf("counted %v, the last %q; want one %q", s.BadChains, s.LastBad, trick.Why)
		}
		if err := rig.Queue.Err(); err != nil {
			t.Errorf("the ring is broken: %v", err)
		}
	})
}

// TestABadHeadOrIndexBreaksTheRing: what came before is served, the error is
// told, nobody is let in again until the driver reset the ring.
func TestABadHeadOrIndexBreaksTheRing(t *testing.T) {
	forEachTrick(t, func(t *testing.T, rig *virtiotest.Rig, dir virtio.Dir, trick virtiotest.Trick) {
		if !trick.Breaks {
			return
		}
		rig.Make(good(dir))
		rig.Publish()
		serve(rig, dir)
		rig.Take()
		if err := trick.Play(rig.Raw()); err != nil {
			t.Fatal(err)
		}
		rig.Publish()
		before := rig.Memory.Snapshot()
		if n := serve(rig, dir); n != 0 {
			t.Errorf("took %d chains behind it", n)
		}
		if err := rig.Memory.Same(before); err != nil {
			t.Errorf("a ring that breaks is not touched: %v", err)
		}
		ring, ok := errors.AsType[*virtio.RingError](rig.Queue.Err())
		if !ok || ring.Err.Error() != trick.Why {
			t.Errorf("the ring's error is %v, want %q", rig.Queue.Err(), trick.Why)
		}
		rig.Reader.Enter()
		if a := rig.Queue.Begin(rig.Reader); a != virtio.Stopped {
			t.Errorf("Begin says %d at a broken ring", a)
		}
		rig.Reader.Leave()
		healed(t, rig, dir)
	})
}

// healed resets the device as a driver does, and expects service.
func healed(t *testing.T, rig *virtiotest.Rig, dir virtio.Dir) {
	t.Helper()
	rig.Stop()
	rig.Driver.Restart(0)
	rig.Queue.SetPosition(0, 0)
	view := rig.View
	rig.Queue.Configure(&view)
	rig.Make(good(dir))
	rig.Publish()
	if n := serve(rig, dir); n != 1 || rig.Queue.Err() != nil {
		t.Errorf("after a reset took %d chains, the error is %v", n, rig.Queue.Err())
	}
	rig.Take()
}

// TestWhatComesBeforeABadHeadIsServed: the chains ahead of it in the same burst.
func TestWhatComesBeforeABadHeadIsServed(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{})
	rig.Make(good(virtio.Readable))
	rig.Make(good(virtio.Readable))
	rig.Raw().Offer(rig.Size)
	rig.Publish()
	if n := serve(rig, virtio.Readable); n != 2 {
		t.Errorf("took %d chains of the 2 before the bad head", n)
	}
	rig.Take()
	rig.Take()
	if !errors.Is(rig.Queue.Err(), virtio.ErrHead) {
		t.Errorf("the ring's error is %v", rig.Queue.Err())
	}
}
