package virtio_test

import (
	"sync/atomic"
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// busy is a worker that stays at a queue in poll mode, turn after turn, until it
// is stopped: control has to work beside it.
type busy struct {
	stop atomic.Bool
	done chan uint64
}

func poll(rig *virtiotest.Rig) *busy {
	p := &busy{done: make(chan uint64, 1)}
	reader := rig.Domain.Join("poller")
	go func() {
		defer reader.Close()
		var sum uint64
		serve := count(&sum)
		for !p.stop.Load() {
			reader.Enter()
			if rig.Queue.Begin(reader) == virtio.Open {
				serve(rig.Queue)
				rig.Queue.End()
			}
			reader.Leave()
		}
		p.done <- sum
	}()
	return p
}

// end stops the worker and gives the sum of what it read.
func (p *busy) end() uint64 {
	p.stop.Store(true)
	return <-p.done
}

// TestTablesAreSwappedUnderTraffic maps a guest's memory anew, again and again,
// rings and buffers, while chains go through it. The old mapping is unmapped as
// soon as the domain was waited for: a worker that came too late would fault.
func TestTablesAreSwappedUnderTraffic(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: 32, Features: virtio.FeatureIndirect}, File: true})
	p := poll(rig)
	var want uint64
	for swap := range 200 {
		for i := range 40 {
			r := virtiotest.Request{Out: [][]byte{{byte(i), byte(swap), 0, 0}}, Shape: virtiotest.Shape(i % 3)}
			if _, err := rig.Add(r); err != nil {
				break
			}
			want += uint64(i) + uint64(swap)<<8
		}
		rig.Publish()
		old := rig.Memory.Remap(t)
		view := rig.View
		view.Mem, view.Ring = rig.Memory.Table(), rig.Driver.Ring()
		rig.Queue.Configure(&view)
		rig.Wait()
		for _, r := range old.Regions() {
			if err := r.Mem.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := reapAll(rig); err != nil {
			t.Fatal(err)
		}
	}
	finish(t, rig)
	if got := p.end(); got != want {
		t.Errorf("the device read a sum of %d, want %d", got, want)
	}
}

// finish waits until every chain is back.
func finish(t *testing.T, rig *virtiotest.Rig) {
	t.Helper()
	for rig.Lent() > 0 {
		if rig.EnableCalls(); rig.Waiting() == 0 {
			select {
			case <-rig.Bell.C():
			case <-t.Context().Done():
				t.Fatal("chains do not come back")
			}
		}
		if _, err := reapAll(rig); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOldMemoryIsNotTouchedAfterTheWait puts another memory where a region was,
// while a worker reads from it, and writes all over the old one after the wait.
// The memory is on the heap: the race detector sees a worker that still reads.
func TestOldMemoryIsNotTouchedAfterTheWait(t *testing.T) {
	const at = 0x8000_0000
	rig := virtiotest.New(t, virtiotest.Options{})
	slab := func() (memtable.Region[memtable.GPA], []byte) {
		mem := make([]byte, 4096)
		mapping := memtable.Wrap(mem, memtable.FileID{}, 0, nil)
		t.Cleanup(func() { mapping.Close() })
		return memtable.Region[memtable.GPA]{Addr: at, Size: 4096, Mem: mapping}, mem
	}
	var old []memtable.Region[memtable.GPA]
	var poison []byte
	configure := func() {
		region, mem := slab()
		view := rig.View
		var err error
		if view.Mem, err = rig.View.Mem.With([]memtable.Region[memtable.GPA]{region}, old); err != nil {
			t.Fatal(err)
		}
		rig.View = view
		rig.Queue.Configure(&view)
		rig.Wait()
		for i := range poison {
			poison[i] = 0xff
		}
		old, poison = []memtable.Region[memtable.GPA]{region}, mem
	}
	configure()
	p := poll(rig)
	for range 200 {
		for {
			if _, err := rig.Raw().Chain([]virtiotest.Desc{{Addr: at, Len: 64}}); err != nil {
				break
			}
		}
		rig.Publish()
		configure()
		if _, err := reapAll(rig); err != nil {
			t.Fatal(err)
		}
	}
	finish(t, rig)
	if sum := p.end(); sum != 0 {
		t.Errorf("the device read a sum of %#x from memory that holds zeros while it is the guest's", sum)
	}
	if s := rig.Queue.Stats(); s.BadChains != nil {
		t.Errorf("bad chains: %v", s.BadChains)
	}
}

// TestARingMovesWhileItIsStopped: stop, ask where the queue stands, another ring
// at another index, go on. The old ring is overwritten once the queue is stopped.
func TestARingMovesWhileItIsStopped(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{})
	p := poll(rig)
	start, sent := uint16(0), uint64(0)
	for round := range uint16(50) {
		for range 5 {
			rig.Send([]byte{1, 0, 0, 0})
			sent++
		}
		finish(t, rig)
		rig.Stop()
		if at := rig.Queue.Position(); at != virtio.Position(start+5) {
			t.Fatalf("five chains from %d on, and the queue stands at %d", start, at)
		}
		old := rig.View.Ring.Used
		rig.Raw().Index(start + 1000)
		for i := range old {
			old[i] = 0xff
		}
		var err error
		start = round*20000 + 0xfffd
		if rig.Driver, err = virtiotest.NewDriver(rig.Memory, virtiotest.DriverOptions{Size: 16, Start: start}); err != nil {
			t.Fatal(err)
		}
		rig.View.Ring = rig.Driver.Ring()
		rig.Queue.SetPosition(virtio.Position(start), virtio.UsedIndex(rig.View.Ring))
		view := rig.View
		rig.Queue.Configure(&view)
	}
	if err := rig.Queue.Err(); err != nil {
		t.Errorf("the worker looked at an old ring: %v", err)
	}
	if got := p.end(); got != sent {
		t.Errorf("%d chains were read of %d", got, sent)
	}
}

// TestAStoppedQueueLetsNobodyIn, and stopping it in the middle of a burst leaves
// the burst's heads to the driver's next device.
func TestAStoppedQueueLetsNobodyIn(t *testing.T) {
	rig := virtiotest.New(t, virtiotest.Options{})
	rig.Send([]byte("never put"))
	var b virtio.Burst
	rig.Stay(func(q *virtio.Queue) {
		q.Take(&b, virtio.Readable, 1)
		q.Configure(nil)
		if q.View() == nil {
			t.Error("the view goes away under the worker")
		}
	})
	rig.Reader.Enter()
	if a := rig.Queue.Begin(rig.Reader); a != virtio.Stopped {
		t.Errorf("Begin says %d", a)
	}
	rig.Reader.Leave()
	if at := rig.Queue.Position(); at != 0 {
		t.Errorf("the queue stands at %d, a chain that was not put counts as taken", at)
	}
}
