package vhost

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// A back-end that is replaced while there is no driver is nothing that the next
// driver has to know.
func TestFrontendADriverBeginsWithTheBackEndThereIs(t *testing.T) {
	var dev *filler
	for name, before := range map[string]func(t *testing.T, f *Frontend, s *supply){
		"the first driver": func(*testing.T, *Frontend, *supply) {},
		"after another": func(t *testing.T, f *Frontend, s *supply) {
			ok(t, f.Accept(t.Context(), virtio.FeatureVersion1))
			newHandDriver(f, s, 0, 0).connect(t, 0)
			ok(t, f.Start(t.Context()))
			ok(t, f.Reset(t.Context()))
		},
		"after another that ended without a back-end": func(t *testing.T, f *Frontend, s *supply) {
			ok(t, f.Accept(t.Context(), virtio.FeatureVersion1|virtio.FeatureInOrder))
			newHandDriver(f, s, 0, 0).connect(t, 0)
			ok(t, f.Start(t.Context()))
			(<-dev.opened).Fail(errors.New("the test ends it"))
			event(t, f, virtio.Lost)
			eventually(t, "there is another one", func() bool { return f.Info().Connections == 2 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			s := newSupply(t, 4, 2)
			dev = newFiller(twoRings)
			f, err := Dial(t.Context(), listenAndServe(t, &Server{Device: dev}), FrontendConfig{Device: virtio.Entropy, Memory: s, Timeout: testTimeout})
			ok(t, err)
			t.Cleanup(func() { ok(t, f.Close()) })
			before(t, f, s)
			for n := f.Info().Connections; n < 4; n++ {
				(<-dev.opened).Fail(errors.New("the test ends it"))
				eventually(t, "there is another one", func() bool { i := f.Info(); return i.Connected && i.Connections == n+1 })
			}
			if err := f.ReadConfig(t.Context(), 0, make([]byte, 1)); !errors.Is(err, ErrNoConfig) {
				t.Errorf("a device without a configuration space: %v", err)
			}
			ok(t, f.Accept(t.Context(), virtio.FeatureVersion1))
			d := newHandDriver(f, s, 0, 0)
			d.fresh(t)
			ok(t, f.Start(t.Context()))
			d.serves(t)
			select {
			case e := <-f.Events():
				t.Errorf("the driver is told %+v", e)
			case <-time.After(10 * time.Millisecond):
			}
		})
	}
}

// A ring in memory that vanished is refused, and is no crash, when its place is
// looked for.
func TestFrontendARingThatVanishedIsRefused(t *testing.T) {
	noLeaks(t)
	s := newSupply(t, 4, 2)
	dev := newFiller(twoRings)
	f, err := Dial(t.Context(), listenAndServe(t, &Server{Device: dev}), FrontendConfig{Device: virtio.Entropy, Memory: s, Timeout: testTimeout})
	ok(t, err)
	t.Cleanup(func() { ok(t, f.Close()) })
	ok(t, f.Accept(t.Context(), virtio.FeatureVersion1|virtio.FeatureInOrder))
	(<-dev.opened).Fail(errors.New("the test ends it"))
	event(t, f, virtio.Lost)
	if e := event(t, f, virtio.Back); !e.Resumes {
		t.Skip("rings do not resume")
	}
	ok(t, unix.Ftruncate(s.extents[0].FD, 0))
	defer func() { ok(t, unix.Ftruncate(s.extents[0].FD, 4*extentBytes)) }()
	_, err = f.Connect(t.Context(), 0, newHandDriver(f, s, 0, 0).placement(0))
	if _, found := errors.AsType[*memtable.FaultError](err); !found {
		t.Errorf("connected: %v", err)
	}
}
