package virtio_test

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// patience is how long a side waits for a notification that it was promised. It
// only ends a test that fails.
const patience = 20 * time.Second

// worker is a device in event mode: it serves what is there, arms, looks again
// and sleeps until it is kicked.
type worker struct {
	q     *virtio.Queue
	rig   *virtiotest.Rig
	kick  *virtiotest.Bell
	stop  chan struct{}
	serve func(q *virtio.Queue) // one burst or more
}

func (w *worker) run() error {
	reader := w.rig.Domain.Join("worker")
	defer reader.Close()
	for {
		reader.Enter()
		work := false
		switch w.q.Begin(reader) {
		case virtio.Open:
			w.q.Disarm()
			w.serve(w.q)
			work = w.q.Arm()
			w.q.End()
		case virtio.Stopped:
			if err := w.q.Err(); err != nil {
				reader.Leave()
				return err
			}
		}
		reader.Leave()
		if work {
			continue
		}
		select {
		case <-w.kick.C():
		case <-w.stop:
			return nil
		}
	}
}

// count serves chains by taking the sum of what it reads, a burst at a time.
func count(sum *uint64) func(q *virtio.Queue) {
	var b virtio.Burst
	return func(q *virtio.Queue) {
		for n := 1; q.Take(&b, virtio.Readable, n) > 0; n = n%7 + 1 {
			for i := range b.N {
				*sum += uint64(binary.LittleEndian.Uint32(b.Elem[i].VA.Bytes(4)))
			}
			q.Put(&b)
			if q.Publish() {
				q.Call()
			}
		}
	}
}

// drive sends n chains in bursts that leave both sides asleep again and again,
// and takes them back. It sleeps only when it was promised a call.
func drive(rig *virtiotest.Rig, kick *virtiotest.Bell, n int) (sum uint64, err error) {
	back := 0
	for sent := 0; back < n; {
		for burst := sent%11 + 1; burst > 0 && sent < n; burst-- {
			if _, err := rig.Add(virtiotest.Request{Out: [][]byte{binary.LittleEndian.AppendUint32(nil, uint32(sent))}}); err != nil {
				break // the ring is full
			}
			sum += uint64(sent)
			sent++
		}
		if rig.Publish() {
			kick.Ring()
		}
		rig.DisableCalls()
		for {
			got, err := reapAll(rig)
			if back += got; err != nil {
				return sum, err
			}
			if sent < n && rig.Free() > 0 || back == n {
				break
			}
			if rig.EnableCalls() {
				continue
			}
			select {
			case <-rig.Bell.C():
			case <-time.After(patience):
				return sum, fmt.Errorf("%d of %d chains came back, and then no call", back, sent)
			}
		}
	}
	return sum, nil
}

func reapAll(rig *virtiotest.Rig) (n int, err error) {
	for {
		if _, ok, err := rig.Reap(); err != nil || !ok {
			return n, err
		}
		n++
	}
}

// TestNoNotificationIsLost runs both sides on their own goroutines, on heap
// memory so that the race detector sees what passes between them. A kick or a
// call that is lost leaves both asleep.
func TestNoNotificationIsLost(t *testing.T) {
	chains := 60000
	if testing.Short() || raceEnabled {
		chains = 8000
	}
	for _, size := range []uint16{1, 4, 64} {
		for _, feat := range []virtio.Features{0, virtio.FeatureEventIdx} {
			t.Run(fmt.Sprintf("size=%d/event_idx=%v", size, feat != 0), func(t *testing.T) {
				rig := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: size, Features: feat, Start: 0xf000}})
				var sum uint64
				w := &worker{q: rig.Queue, rig: rig, kick: virtiotest.NewBell(), stop: make(chan struct{}), serve: count(&sum)}
				done := make(chan error, 1)
				go func() { done <- w.run() }()
				want, err := drive(rig, w.kick, chains)
				if err != nil {
					t.Error(err)
				}
				close(w.stop)
				if err := <-done; err != nil {
					t.Error(err)
				}
				if sum != want {
					t.Errorf("the device read a sum of %d, want %d", sum, want)
				}
				s := rig.Queue.Stats()
				t.Logf("%d chains, %d bursts, %d kicks, %d calls, %d not wanted", s.Chains, s.Bursts, w.kick.Rings(), s.Calls, s.CallsSuppressed)
			})
		}
	}
}
