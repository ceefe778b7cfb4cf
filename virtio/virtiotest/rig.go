package virtiotest

import (
	"context"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Options says what a rig is made of. The zero value is a ring of 8 in memory
// on the heap, with nothing negotiated but VERSION_1.
type Options struct {
	DriverOptions
	Memory *Memory          // shared with another rig; nil: a new one
	File   bool             // a new memory is a memfd
	Domain *memtable.Domain // nil: a new one
	Index  int              // the queue's number in its device
	Shared bool             // several workers fill it
	Log    bool             // writes go to a dirty log
}

// Rig is both sides of one virtqueue: a driver, and a queue that was configured
// for its ring.
type Rig struct {
	*Driver
	Memory *Memory
	Queue  *virtio.Queue
	Domain *memtable.Domain
	Reader *memtable.Reader // of the worker that Stay plays
	Bell   *Bell            // the call
	Log    *memtable.Log    // nil without Options.Log
	View   virtio.View      // what the queue is configured with

	tb     testing.TB
	shared bool
	index  int
}

// New makes a rig. When tb ends, all of its memory is verified.
func New(tb testing.TB, o Options) *Rig {
	tb.Helper()
	r := &Rig{tb: tb, Memory: o.Memory, Domain: o.Domain, Bell: NewBell(), shared: o.Shared, index: o.Index}
	if o.Features |= virtio.FeatureVersion1; r.Memory == nil {
		size := max(uint64(o.Size), 8)
		r.Memory = NewMemory(tb, MemoryOptions{Areas: Areas(max(64<<10, 64*size)), File: o.File})
	}
	if r.Domain == nil {
		r.Domain = new(memtable.Domain)
	}
	var err error
	if r.Driver, err = NewDriver(r.Memory, o.DriverOptions); err != nil {
		tb.Fatal(err)
	}
	r.View = virtio.View{
		Ring: r.Driver.Ring(), Features: o.Features, Mem: r.Memory.Table(), Call: r.Bell, Enabled: true,
	}
	if o.Log {
		r.makeLog()
	}
	if err := r.View.Ring.Check(); err != nil {
		tb.Fatal(err)
	}
	r.plug()
	r.Reader = r.Domain.Join("virtiotest")
	tb.Cleanup(func() {
		r.Reader.Close()
		if err := r.Memory.Verify(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

// plug makes a queue and configures it.
func (r *Rig) plug() {
	r.Queue = virtio.NewQueue(virtio.QueueOptions{Index: r.index, Shared: r.shared})
	r.Queue.SetPosition(virtio.Position(r.Start), r.Start)
	v := r.View
	r.Queue.Configure(&v)
}

// Restart begins again with a new queue, indices at start and the features f, as
// after a reset of the device. No worker may be at the old queue.
func (r *Rig) Restart(start uint16, f virtio.Features) {
	r.Driver.Features, r.View.Features = f, f
	r.Driver.Restart(start)
	r.plug()
}

// makeLog makes a dirty log for all of the memory.
func (r *Rig) makeLog() {
	regions := r.Memory.regions
	pages := uint64(regions[len(regions)-1].end()) / page
	log, err := memtable.NewLog(memtable.Wrap(heapBytes((pages+63)/64*8), memtable.FileID{Ino: 1 << 32}, 0, nil))
	if err != nil {
		r.tb.Fatal(err)
	}
	r.Log = log
	r.View.Log, r.View.LogUsed, r.View.UsedLog = log, true, r.UsedAddr()
	r.View.Features |= virtio.FeatureLogAll
}

// Stay is a worker's stay at the queue: f runs between Begin and End, in a
// section of the rig's reader.
func (r *Rig) Stay(f func(q *virtio.Queue)) {
	r.tb.Helper()
	r.Reader.Enter()
	defer r.Reader.Leave()
	if a := r.Queue.Begin(r.Reader); a != virtio.Open {
		r.tb.Fatalf("Begin says %d, not Open; the ring's error is %v", a, r.Queue.Err())
	}
	defer r.Queue.End()
	f(r.Queue)
}

// Stop stops the queue and waits until no worker is at it.
func (r *Rig) Stop() {
	r.tb.Helper()
	r.Queue.Configure(nil)
	r.Wait()
}

// Wait waits for the rig's domain.
func (r *Rig) Wait() {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(r.tb.Context(), 10*time.Second)
	defer cancel()
	if err := r.Domain.Wait(ctx); err != nil {
		r.tb.Fatal(err)
	}
}

// Make adds a chain; the test fails when there is no room. Publish it.
func (r *Rig) Make(q Request) (head uint16) {
	r.tb.Helper()
	head, err := r.Add(q)
	if err != nil {
		r.tb.Fatal(err)
	}
	return head
}

// Send makes one chain available for the device to read, a buffer for each p.
func (r *Rig) Send(p ...[]byte) (head uint16) {
	r.tb.Helper()
	head = r.Make(Request{Out: p})
	r.Publish()
	return head
}

// Post makes one chain available for the device to write, a buffer for each size.
func (r *Rig) Post(sizes ...int) (head uint16) {
	r.tb.Helper()
	head = r.Make(Request{In: sizes})
	r.Publish()
	return head
}

// Ask makes a chain available that has both: what the device reads, and room for
// its answer.
func (r *Rig) Ask(room int, p ...[]byte) (head uint16) {
	r.tb.Helper()
	head = r.Make(Request{Out: p, In: []int{room}})
	r.Publish()
	return head
}

// Take reaps one chain; the test fails when none came back, or a wrong one.
func (r *Rig) Take() Used {
	r.tb.Helper()
	u, ok, err := r.Reap()
	if err != nil {
		r.tb.Fatal(err)
	}
	if !ok {
		r.tb.Fatal("no chain came back")
	}
	return u
}

// Recv reaps one chain and gives what the device wrote into it.
func (r *Rig) Recv() []byte {
	r.tb.Helper()
	return r.Take().Data()
}

// Dirty gives the pages that the dirty log marks, by their first address, and
// clears it, as a front-end does that migrates.
func (r *Rig) Dirty() map[memtable.GPA]bool {
	dirty := make(map[memtable.GPA]bool)
	for i, b := range r.Log.Mapping().Bytes() {
		for bit := range 8 {
			if b>>bit&1 != 0 {
				dirty[memtable.GPA(i*8+bit)*page] = true
			}
		}
	}
	clear(r.Log.Mapping().Bytes())
	return dirty
}
