package virtio_test

import (
	"testing"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// TestABadChainIsCountedOnce: however often it was taken and given back before,
// as a receive queue does that has more buffers than frames. One bad chain must
// not look like a run of them.
func TestABadChainIsCountedOnce(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: 4}})
	trick := virtiotest.Tricks(virtio.Writable)[0]
	if err := trick.Play(rig.Raw()); err != nil {
		t.Fatal(err)
	}
	rig.Publish()
	var b virtio.Burst
	rig.Stay(func(q *virtio.Queue) {
		for range 1 << 17 { // more than a run that breaks a ring
			if q.Take(&b, virtio.Writable, 1) != 1 {
				t.Fatalf("not taken: %v", q.Err())
			}
			q.Untake(&b, 0)
		}
		if n := q.Stats().BadChains; n != nil {
			t.Errorf("counted before it went back: %v", n)
		}
		q.Take(&b, virtio.Writable, 1)
		q.Put(&b)
		q.Publish()
		if n := q.Stats().BadChains[trick.Why]; n != 1 {
			t.Errorf("counted %d times", n)
		}
	})
}
