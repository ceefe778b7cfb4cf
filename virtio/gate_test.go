package virtio_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// TestASharedQueueHasOneWriterAtATime lets several workers fill a queue. What
// they share inside is plain memory, on the heap for the race detector.
func TestASharedQueueHasOneWriterAtATime(t *testing.T) {
	const size, workers = 1024, 3
	rig := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: size}, Shared: true})
	for range size {
		rig.Make(virtiotest.Request{In: []int{4}})
	}
	rig.Publish()
	inside, filled := 0, 0 // guarded by the gate alone
	var all sync.WaitGroup
	for range workers {
		reader := rig.Domain.Join("filler")
		all.Go(func() {
			defer reader.Close()
			var b virtio.Burst
			for last := false; !last; runtime.Gosched() {
				reader.Enter()
				if rig.Queue.Begin(reader) == virtio.Open {
					if inside++; inside != 1 {
						t.Errorf("%d workers are inside", inside)
					}
					n := rig.Queue.Take(&b, virtio.Writable, 8)
					rig.Queue.Untake(&b, 5) // it fills less than it could
					for i := range b.N {
						b.Elem[i].Wrote = uint32(copy(b.Elem[i].VA.Bytes(4), "full"))
					}
					filled += b.N
					rig.Queue.Put(&b)
					rig.Queue.Publish()
					inside--
					rig.Queue.End()
					last = n == 0
				}
				reader.Leave()
			}
		})
	}
	all.Wait()
	if filled != size || rig.Waiting() != size {
		t.Errorf("%d chains were filled, %d came back, of %d", filled, rig.Waiting(), size)
	}
	for range size {
		if got := rig.Recv(); string(got) != "full" {
			t.Fatalf("%q came back", got)
		}
	}
}

// TestBusyIsToldToTheSecond, whoever is first; a queue of one worker has no gate.
func TestBusyIsToldToTheSecond(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{Shared: true})
	second := rig.Domain.Join("second")
	defer second.Close()
	second.Enter()
	defer second.Leave()
	rig.Stay(func(q *virtio.Queue) {
		if a := q.Begin(second); a != virtio.Busy {
			t.Errorf("Begin says %d, not Busy", a)
		}
	})
	if a := rig.Queue.Begin(second); a != virtio.Open {
		t.Errorf("after the first has left, Begin says %d", a)
	}
	rig.Queue.End()
}

// TestAStoppedSharedQueueIsNotBusy: the gate is left where nobody gets in.
func TestAStoppedSharedQueueIsNotBusy(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{Shared: true})
	rig.Stop()
	rig.Reader.Enter()
	defer rig.Reader.Leave()
	for range 2 {
		if a := rig.Queue.Begin(rig.Reader); a != virtio.Stopped {
			t.Errorf("Begin says %d, not Stopped", a)
		}
	}
}
