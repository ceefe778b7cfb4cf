package vnet_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"sync"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// A pool, a back-end, a frame there and back. The back-end here sends everything
// back; any other that speaks vhost-user does as well.
func Example() {
	ctx := context.Background()
	socket, stop := echoSocket()
	defer stop()

	arena := try(memfd.New(memfd.Options{NoHuge: true}))
	heap := try(arena.Heap("rings", memfd.HeapOptions{Shared: true, Node: memfd.AnyNode}))
	pool := try(arena.Pool(ctx, "frames", memfd.PoolOptions{Size: 2048, Count: 1024, Resident: 512, Node: memfd.AnyNode}))

	transport := try(vhost.Dial(ctx, socket, vhost.FrontendConfig{Device: virtio.Net, Memory: arena}))
	driver := try(vnet.Open(ctx, vnet.DriverConfig{
		Transport: transport, Rings: heap, Memory: arena,
		Buffers: func(ring int) vnet.Buffers {
			if ring%2 == 0 {
				return pool.ResidentCache() // to receive into: it comes back only with traffic
			}
			return pool.Cache()
		},
	}))
	tx, rx := driver.Tx(0), driver.Rx(0)

	out := make([]memtable.Buf, 1)
	tx.Get(out)
	vnet.Load(&out[0], []byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5hello"))
	tx.Send(out)

	in := make([]vnet.Frame, 32)
	n := rx.Receive(in)
	for ; n == 0; n = rx.Receive(in) {
		if err := rx.Wait(ctx); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Printf("%s\n", in[0].Data()[14:])
	rx.Release(in[:n])

	for _, end := range []func() error{func() error { return driver.Close(ctx) }, transport.Close, pool.Close, heap.Close, arena.Close} {
		if err := end(); err != nil {
			log.Fatal(err)
		}
	}
	// Output: hello
}

func try[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// echoSocket starts the back-end of the example.
func echoSocket() (path string, stop func()) {
	dir := try(os.MkdirTemp("", "vnet"))
	l := try(vhost.Listen(dir+"/echo.sock", vhost.ListenOptions{UID: -1, GID: -1}))
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { _ = (&vhost.Server{Device: newEcho(1)}).Serve(ctx, l) })
	return dir + "/echo.sock", func() {
		cancel()
		serving.Wait()
		_ = os.RemoveAll(dir)
	}
}
