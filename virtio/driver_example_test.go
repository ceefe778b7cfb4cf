package virtio_test

import (
	"context"
	"fmt"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// A driver lends buffers of a pool to its device. Here the device is in the same
// process; else a Transport tells it where the ring is and gives the doorbell.
func ExampleDriverQueue() {
	ctx := context.Background()
	arena, err := memfd.New(memfd.Options{NoHuge: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer arena.Close()
	heap, _ := arena.Heap("rings", memfd.HeapOptions{Shared: true, Node: memfd.AnyNode})
	pool, _ := arena.Pool(ctx, "frames", memfd.PoolOptions{Size: 2048, Count: 256, Resident: 64, Node: memfd.AnyNode})
	mem, _ := heap.AllocZero(ctx, virtio.RingBytes(64), 64)
	place, _ := virtio.PlaceRing(mem, 64)
	q, err := virtio.NewDriverQueue(virtio.DriverOptions{Placement: place, Memory: arena})
	if err != nil {
		fmt.Println(err)
		return
	}
	device := listen(place, arena)

	// The worker: lend, show, tell; and later take back.
	cache, burst := pool.ResidentCache(), make([]memtable.Buf, 3)
	burst = burst[:cache.Get(burst)]
	q.AddBurst(burst, virtio.Writable)
	q.Publish()
	q.Kick()

	device("a frame", "another")

	back := make([]memtable.Buf, 32)
	back = back[:q.Reap(back)]
	for _, b := range back {
		fmt.Printf("%q\n", b.VA.Bytes(uint64(b.Len)))
	}
	cache.Put(back)

	// The device goes away, and what it had comes back.
	cache.Put(q.Reclaim())
	cache.Close()
	_ = pool.Close()
	_ = heap.Free(mem)
	_ = heap.Close()
	// Output:
	// "a frame"
	// "another"
}

// listen is a device that writes what it hears into the ring's buffers. Guests
// name memory by GPA, so its table is by that.
func listen(p virtio.Placement, arena *memfd.Arena) func(heard ...string) {
	var regions []memtable.Region[memtable.GPA]
	for _, r := range arena.ByIOVA(nil).Regions() {
		regions = append(regions, memtable.Region[memtable.GPA]{Addr: memtable.GPA(r.Addr), Size: r.Size, Mem: r.Mem, Skip: r.Skip})
	}
	table, _ := memtable.New(regions, memtable.Options{})
	part := func(b memtable.Buf) []byte { return b.VA.Bytes(uint64(b.Len)) }
	q := virtio.NewQueue(virtio.QueueOptions{})
	q.Configure(&virtio.View{
		Ring: virtio.Ring{Size: p.Size, Desc: part(p.Desc), Avail: part(p.Avail), Used: part(p.Used)}, Mem: table,
	})
	worker := new(memtable.Domain).Join("device")
	return func(heard ...string) {
		worker.Enter()
		defer worker.Leave()
		q.Begin(worker)
		defer q.End()
		for _, frame := range heard {
			c, _ := q.Next()
			_, _ = c.Write([]byte(frame))
			c.Done(c.Wrote())
		}
		q.Arm()
	}
}
