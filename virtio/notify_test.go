package virtio_test

import (
	"fmt"
	"testing"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// TestEventIndexCallsOverTheWrap: with used_event anywhere about the indices, a
// call is wanted exactly when the used index passes it.
func TestEventIndexCallsOverTheWrap(t *testing.T) {
	const size = 8
	rig := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: size}})
	for _, start := range []uint16{0, 0xfffb, 0xffff, 0x7ffc} {
		for n := uint16(1); n <= size; n++ {
			for event := start - 2*size; event != start+2*size; event++ {
				want := false
				for i := start; i != start+n; i++ {
					want = want || i == event
				}
				rig.Restart(start, virtio.FeatureEventIdx)
				rig.SetUsedEvent(event)
				for range n {
					rig.Make(good(virtio.Readable))
				}
				rig.Publish()
				var b virtio.Burst
				rig.Stay(func(q *virtio.Queue) {
					q.Take(&b, virtio.Readable, size)
					q.Put(&b)
					if call := q.Publish(); call != want {
						t.Fatalf("used index %d to %d, used_event %d: call %v, want %v", start, start+n, event, call, want)
					}
				})
			}
		}
	}
}

// TestPublishWithoutNewsCallsNobody, whatever the driver asked for.
func TestPublishWithoutNewsCallsNobody(t *testing.T) {
	for _, feat := range []virtio.Features{0, virtio.FeatureEventIdx} {
		rig := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Features: feat}})
		rig.EnableCalls()
		rig.Send([]byte("seen, but not put"))
		var b virtio.Burst
		rig.Stay(func(q *virtio.Queue) {
			q.Take(&b, virtio.Readable, 1)
			if q.Publish() {
				t.Errorf("features %v: a call for nothing", feat.Names(virtio.Net))
			}
		})
	}
}

// TestTheDoorbellRingsOncePerCall, and a queue without one does not mind.
func TestTheDoorbellRingsOncePerCall(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{})
	rig.Send([]byte("one"))
	rig.Stay(func(q *virtio.Queue) { echo(q) })
	if n, s := rig.Bell.Rings(), rig.Queue.Stats(); n != 1 || s.Calls != 1 {
		t.Errorf("the bell rang %d times, %d calls are counted", n, s.Calls)
	}
	rig.DisableCalls()
	rig.Send([]byte("two"))
	rig.Stay(func(q *virtio.Queue) { echo(q) })
	if n, s := rig.Bell.Rings(), rig.Queue.Stats(); n != 1 || s.CallsSuppressed != 1 {
		t.Errorf("the bell rang %d times; %d calls that nobody wants are counted", n, s.CallsSuppressed)
	}
	view := rig.View
	view.Call = nil
	rig.Queue.Configure(&view)
	rig.EnableCalls()
	rig.Send([]byte("three"))
	rig.Stay(func(q *virtio.Queue) { echo(q) })
	for range 3 {
		rig.Take()
	}
}

// TestAQueueThatManyFillAsksForNoKicks: who fills it looks by himself. The
// driver is told with the first chain that comes back.
func TestAQueueThatManyFillAsksForNoKicks(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{Shared: true})
	rig.Make(good(virtio.Writable))
	rig.Publish()
	serve(rig, virtio.Writable)
	rig.Take()
	rig.Make(good(virtio.Writable))
	if rig.Publish() {
		t.Error("a kick is wanted")
	}
}

// TestDisarmIsRememberedOverPublish: used.flags and used.idx share a word, and
// writing one must not change the other.
func TestDisarmIsRememberedOverPublish(t *testing.T) {
	for _, quiet := range []bool{true, false} {
		t.Run(fmt.Sprintf("disarmed=%v", quiet), func(t *testing.T) {
			rig := virtiotest.New(t, virtiotest.Options{})
			rig.Send([]byte("one"))
			rig.Stay(func(q *virtio.Queue) {
				if q.Disarm(); !quiet {
					q.Arm()
				}
				echo(q)
			})
			rig.Take()
			rig.Make(good(virtio.Readable))
			if kick := rig.Publish(); kick == quiet {
				t.Errorf("kick wanted: %v", kick)
			}
		})
	}
}

// TestArmAndDisarmShowNothingThatIsNotPublished: used.flags has its idx beside it.
func TestArmAndDisarmShowNothingThatIsNotPublished(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{})
	rig.Send([]byte("put, and not published"))
	var b virtio.Burst
	rig.Stay(func(q *virtio.Queue) {
		q.Take(&b, virtio.Readable, 1)
		q.Put(&b)
		for _, step := range []func(){func() { q.Disarm() }, func() { q.Arm() }} {
			if step(); rig.Waiting() != 0 {
				t.Fatal("the driver sees what was put")
			}
		}
		q.Publish()
	})
	rig.Take()
}
