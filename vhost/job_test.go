package vhost

import (
	"errors"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

func TestJobServeAsksForNoKickWhileItServes(t *testing.T) {
	for _, features := range []virtio.Features{0, virtio.FeatureEventIdx} {
		var b *bench
		var kick bool
		h := &handler{serve: func(q *virtio.Queue) error {
			b.Make(virtiotest.Request{Out: [][]byte{{2}}})
			kick = b.Publish()
			return take(q)
		}}
		b = newBench(t, h, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Features: features}})
		b.job.Serve(b.Reader) // armed by now
		b.Send([]byte{1})
		b.job.Serve(b.Reader)
		if kick {
			t.Errorf("features %#x: the driver had to kick a worker that was there", uint64(features))
		}
	}
}

func TestEventsPausesADisabledRingAndDropsForThoseWhoCan(t *testing.T) {
	h := &dropping{handler: handler{serve: take}}
	b := newBench(t, &h.handler, virtiotest.Options{})
	b.View.Enabled = false
	b.Queue.Configure(&b.View)
	b.Send([]byte("wait"))
	memtable.Faults()
	for range 3 {
		if b.job.Serve(b.Reader) {
			t.Error("a paused ring asks to be looked at again")
		}
	}
	if _, ok, _ := b.Reap(); ok || h.serves.Load() != 0 {
		t.Error("a paused ring was served")
	}

	b.job.Handler = h
	b.job.Serve(b.Reader)
	if _, ok, _ := b.Reap(); !ok || h.drops.Load() != 1 || h.serves.Load() != 0 {
		t.Errorf("%d drops, %d serves", h.drops.Load(), h.serves.Load())
	}

	enabled := b.View
	enabled.Enabled = true
	r := b.attach(t)
	b.Send([]byte("now"))
	b.Queue.Configure(&enabled)
	r.Wake(b.job)
	b.back(t)
}

// vanished is mapped memory whose file is empty.
func vanished(t *testing.T, owner any) *memtable.Mapping {
	t.Helper()
	fd, err := unix.MemfdCreate("vanished", unix.MFD_CLOEXEC)
	if err != nil {
		t.Skip("needs memfd_create: ", err)
	}
	defer unix.Close(fd)
	size := int64(unix.Getpagesize())
	if err := unix.Ftruncate(fd, size); err != nil {
		t.Fatal(err)
	}
	m, err := memtable.MapFile(fd, 0, uint64(size), memtable.MapOptions{Owner: owner})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if err := unix.Ftruncate(fd, 0); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEventsBlamesAFaultOnTheMemorysOwner(t *testing.T) {
	other := newBlamed()
	theirs, nobodys := vanished(t, other), vanished(t, nil)
	var touch atomic.Pointer[memtable.Mapping]
	h := &handler{serve: func(q *virtio.Queue) error {
		var sum byte
		for c := range q.Chains() {
			if m := touch.Load(); m != nil {
				sum += m.Bytes()[0]
			}
			c.Done(int(sum))
		}
		return nil
	}}
	b := newBench(t, h, virtiotest.Options{})
	touch.Store(theirs)
	r := b.attach(t)
	b.Send([]byte("copied from memory that is gone"))
	r.Wake(b.job)
	var fault *memtable.FaultError
	if err := <-other.failed; !errors.As(err, &fault) {
		t.Errorf("the owner was told %v", err)
	}
	// The ring itself is whole: what it gave back comes again, without a kick.
	touch.Store(nil)
	b.back(t)
	b.Wait()

	touch.Store(nobodys)
	b.Send([]byte("again"))
	r.Wake(b.job)
	if err := <-b.owner.failed; !errors.As(err, &fault) {
		t.Errorf("the job's owner was told %v", err)
	}
	b.Wait()
	touch.Store(nil)
}

// Until its session has taken the view away, every look at memory that is gone
// would be one more fault.
func TestJobGoesOnAfterAFaultOnlyIfItWasAnothers(t *testing.T) {
	other := newBlamed()
	var touch *memtable.Mapping
	b := newBench(t, &handler{serve: func(*virtio.Queue) error {
		if touch.Bytes()[0] != 0 {
			t.Error("memory that is gone holds something")
		}
		return nil
	}}, virtiotest.Options{})
	memtable.Faults()
	for _, c := range []struct {
		whose string
		owner any
		again bool
	}{{"another's", other, true}, {"its own", b.owner, false}, {"nobody's", nil, false}} {
		touch = vanished(t, c.owner)
		if again := b.job.Serve(b.Reader); again != c.again {
			t.Errorf("%s memory vanished; look again: %v", c.whose, again)
		}
	}
	if len(other.failed) != 1 || len(b.owner.failed) != 2 {
		t.Errorf("the other was failed %d times, the owner %d times", len(other.failed), len(b.owner.failed))
	}
	b.free(t)
}

// A mistake of ours is not the peer's: it must not be swallowed, and what was
// entered must be left all the same.
func TestJobServeLetsOtherPanicsPass(t *testing.T) {
	b := newBench(t, &handler{serve: func(*virtio.Queue) error { panic("a bug") }}, virtiotest.Options{})
	func() {
		defer func() {
			if v := recover(); v != "a bug" {
				t.Errorf("recovered %v", v)
			}
		}()
		b.job.Serve(b.Reader)
	}()
	b.free(t)
}
