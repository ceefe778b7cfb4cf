// Frames sends a few frames through a vhost-user back-end, such as a port of
// vhostd, and prints those that come:
//
//	vhostd serve --net a=/tmp/a.sock --net b=/tmp/b.sock
//	frames --send 0 /tmp/b.sock
//	frames --send 5 /tmp/a.sock
//
// It needs no rights and no mount; --page-sizes 2M and the other switches of
// memory are those of every program (memfd/memflag).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memfd/memflag"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

func main() {
	log.SetFlags(0)
	var mem memflag.Flags
	mem.Register(flag.CommandLine)
	send := flag.Int("send", 5, "broadcast so many `frames`")
	expect := flag.Int("expect", 0, "end after so many `frames` came; 0: at a signal")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	o, err := mem.Options()
	if err == nil {
		err = run(ctx, os.Stdout, o, flag.Arg(0), *send, *expect)
	}
	if err != nil {
		log.Fatal("frames: ", err)
	}
}

// run is the whole of it: memory, a transport that shares it, a driver over that,
// frames.
func run(ctx context.Context, out io.Writer, o memfd.Options, socket string, send, expect int) (err error) {
	also := func(f func() error) { err = errors.Join(err, f()) }
	arena, err := memfd.New(o)
	if err != nil {
		return err
	}
	defer also(arena.Close)
	heap, err := arena.Heap("rings", memfd.HeapOptions{Shared: true, Node: memfd.AnyNode})
	if err != nil {
		return err
	}
	defer also(heap.Close)
	pool, err := arena.Pool(ctx, "frames", memfd.PoolOptions{Size: 2048, Count: 1024, Resident: 512, Node: memfd.AnyNode})
	if err != nil {
		return err
	}
	defer also(pool.Close)

	transport, err := vhost.Dial(ctx, socket, vhost.FrontendConfig{Device: virtio.Net, Memory: arena})
	if err != nil {
		return err
	}
	defer also(transport.Close)
	driver, err := vnet.Open(ctx, vnet.DriverConfig{
		Transport: transport, Rings: heap, Memory: arena,
		Buffers: func(ring int) vnet.Buffers {
			if ring%2 == 0 {
				return pool.ResidentCache() // receive buffers come back only with traffic
			}
			return pool.Cache()
		},
	})
	if err != nil {
		return err
	}
	defer also(func() error { return driver.Close(context.WithoutCancel(ctx)) })
	return talk(ctx, out, driver, send, expect)
}

// talk sends, and then prints what comes.
func talk(ctx context.Context, out io.Writer, d *vnet.Driver, send, expect int) error {
	tx, rx, mac := d.Tx(0), d.Rx(0), d.MAC()
	for n := range send {
		frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac[:]...)
		frame = fmt.Appendf(append(frame, 0x88, 0xb5), "frame %d of %d", n+1, send)
		buf := make([]memtable.Buf, 1)
		if tx.Get(buf) == 0 || !vnet.Load(&buf[0], frame) {
			return vnet.ErrNoBuffers
		}
		for tx.Send(buf) == 0 {
			if err := tx.Wait(ctx); err != nil {
				return err
			}
		}
	}
	frames := make([]vnet.Frame, 32)
	for got := 0; expect == 0 || got < expect; {
		n := rx.Receive(frames)
		for i := range frames[:n] {
			data := frames[i].Data()
			fmt.Fprintf(out, "%x: %q\n", data[6:12], data[14:])
		}
		rx.Release(frames[:n])
		if got += n; n > 0 {
			continue
		}
		if err := rx.Wait(ctx); err != nil {
			if ctx.Err() != nil {
				return nil // a signal
			}
			return err
		}
	}
	return nil
}
