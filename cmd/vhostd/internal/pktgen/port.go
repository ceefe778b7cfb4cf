package pktgen

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/backend"
	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// port is a driver and all that it is made of, from the memory up.
type port struct {
	*vnet.Driver
	front  *vhost.Frontend
	arena  *memfd.Arena
	pool   *memfd.Pool
	caches []*memfd.Cache // by ring
	undo   backend.Undo
}

// closing is how long a back-end may take to let go.
const closing = 5 * time.Second

// openPort brings a port up. What it made is gone if there is an error.
func openPort(ctx context.Context, c *Config) (*port, error) {
	p := new(port)
	if err := p.open(ctx, c); err != nil {
		return nil, errors.Join(err, p.undo.Close())
	}
	return p, nil
}

func (p *port) open(ctx context.Context, c *Config) error {
	features, err := c.features()
	if err != nil {
		return err
	}
	rings, err := p.memory(ctx, c)
	if err != nil {
		return err
	}
	p.front, err = c.Address.Connect(ctx, vhost.FrontendConfig{Device: virtio.Net, Memory: p.arena, Queues: 2 * c.Pairs})
	if err != nil {
		return err
	}
	p.undo.Later(p.front.Close)
	p.Driver, err = vnet.Open(ctx, vnet.DriverConfig{
		Transport: p.front, Rings: rings, Memory: p.arena, Pairs: c.Pairs, Size: uint16(c.Ring),
		Features: features, MTU: uint16(c.MTU), MAC: c.Src,
		Buffers: func(ring int) vnet.Buffers { return p.caches[ring] },
	})
	if err != nil {
		return fmt.Errorf("%s: %w", c.Socket, err)
	}
	p.undo.Later(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), closing)
		defer cancel()
		return p.Driver.Close(ctx)
	})
	return nil
}

// memory makes the arena, a heap for rings and a pool for frames.
func (p *port) memory(ctx context.Context, c *Config) (rings *memfd.Heap, err error) {
	o := c.Memory
	o.Name = "pktgen"
	if p.arena, err = memfd.New(o); err != nil {
		return nil, err
	}
	p.undo.Later(p.arena.Close)
	if rings, err = p.arena.Heap("rings", memfd.HeapOptions{Shared: true, Node: memfd.AnyNode}); err != nil {
		return nil, err
	}
	p.undo.Later(rings.Close)
	// Each queue may have all that its ring and its cache hold, and a burst.
	const cache = 4 * mostBurst
	count := 2 * c.Pairs * (c.Ring + cache + 2*mostBurst)
	p.pool, err = p.arena.Pool(ctx, "frames", memfd.PoolOptions{
		Size: uint32(c.Buffer), Count: count, Resident: count, Cache: cache, Node: memfd.AnyNode,
		Straddle: c.Buffer > os.Getpagesize(), // jumbo frames, on pages of the system
	})
	if err != nil {
		return nil, err
	}
	p.undo.Later(p.pool.Close)
	for i := range 2 * c.Pairs {
		if c.Mode == Reflect && i%2 == 1 {
			p.caches = append(p.caches, p.caches[i-1]) // its buffers go from one ring to the other
			continue
		}
		cache := p.pool.Cache()
		p.caches = append(p.caches, cache)
		p.undo.Later(func() error { cache.Close(); return nil })
	}
	return rings, nil
}
