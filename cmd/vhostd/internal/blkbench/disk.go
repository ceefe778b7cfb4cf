package blkbench

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/backend"
	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// disk is a driver and all that it is made of, from the memory up.
type disk struct {
	*vblk.Disk
	front *vhost.Frontend
	arena *memfd.Arena
	undo  backend.Undo
	bufs  []memtable.Buf // Depth of them for each queue, Block bytes each
}

// openDisk brings a disk up. What it made is gone if there is an error.
func openDisk(ctx context.Context, c *Config) (*disk, error) {
	d := new(disk)
	if err := d.open(ctx, c); err != nil {
		return nil, errors.Join(err, d.undo.Close())
	}
	return d, nil
}

func (d *disk) open(ctx context.Context, c *Config) (err error) {
	o := c.Memory
	o.Name = "blkbench"
	if d.arena, err = memfd.New(o); err != nil {
		return err
	}
	d.undo.Later(d.arena.Close)
	rings, err := d.arena.Heap("rings", memfd.HeapOptions{Shared: true, Node: memfd.AnyNode})
	if err != nil {
		return err
	}
	d.undo.Later(rings.Close)
	if err = d.buffers(ctx, c); err != nil {
		return err
	}
	// Closing the disk closes the front-end, and that has to be before memory goes.
	d.front, err = c.Address.Connect(ctx, vhost.FrontendConfig{Device: virtio.Block, Memory: d.arena, Queues: c.Queues})
	if err != nil {
		return err
	}
	if n := d.front.Queues(); n < c.Queues {
		return errors.Join(fmt.Errorf("%s: %d queues, and the disk has %d: use fewer", c.Socket, c.Queues, n), d.front.Close())
	}
	d.Disk, err = vblk.Open(ctx, vblk.Options{
		Transport: d.front, Heap: rings, Memory: d.arena, Queues: c.Queues, Direct: c.Queues, Size: uint16(c.Ring),
		BounceCount: 1, BounceSize: 4096,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", c.Socket, err), d.front.Close())
	}
	d.undo.Later(d.Disk.Close)
	return nil
}

// buffers makes what is read into and written from.
func (d *disk) buffers(ctx context.Context, c *Config) error {
	n := c.Depth * c.Queues
	pool, err := d.arena.Pool(ctx, "blocks", memfd.PoolOptions{
		Size: uint32(c.Block), Count: n, Resident: n, Align: uint32(min(c.Block&-c.Block, 4096)), Node: memfd.AnyNode,
		Straddle: c.Block > uint64(os.Getpagesize()),
	})
	if err != nil {
		return err
	}
	d.undo.Later(pool.Close)
	cache := pool.Cache()
	d.bufs = make([]memtable.Buf, n)
	k := cache.Get(d.bufs)
	d.undo.Later(func() error {
		cache.Put(d.bufs[:k])
		cache.Close()
		return nil
	})
	if k < n {
		return fmt.Errorf("%d of %d blocks of memory", k, n)
	}
	return nil
}
