package vblk

import (
	"context"
	"fmt"
	"math/bits"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Open agrees on features with the device, reads its configuration and starts
// it. If it fails the transport is the caller's still, and has been reset.
func Open(ctx context.Context, o Options) (_ *Disk, err error) {
	d, err := newDisk(o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.undo(ctx)
		}
	}()
	t := d.o.Transport
	if err := t.Accept(ctx, d.features); err != nil {
		return nil, fmt.Errorf("block device: features: %w", err)
	}
	c, err := d.readConfig(ctx)
	if err != nil {
		return nil, err
	}
	d.config.Store(&c)
	if err := d.makeQueues(ctx, c); err != nil {
		return nil, err
	}
	if err := d.makeBounce(ctx); err != nil {
		return nil, err
	}
	if err := d.start(ctx); err != nil {
		return nil, fmt.Errorf("block device: %w", err)
	}
	d.ctx, d.stop = context.WithCancel(context.Background())
	for _, q := range d.queues[:d.own()] {
		d.runners.Go(q.run)
	}
	d.control.Go(d.follow)
	return d, nil
}

// newDisk checks the options and fills in what they leave open.
func newDisk(o Options) (*Disk, error) {
	if o.Queues == 0 {
		o.Queues = 1
	}
	if o.Size == 0 {
		o.Size = 128
	}
	if o.Segments == 0 {
		o.Segments = 30
	}
	if o.BounceSize == 0 {
		o.BounceSize = 64 << 10
	}
	if o.BounceCount == 0 {
		o.BounceCount = 16
	}
	if o.Features == 0 {
		o.Features = wellused
	}
	t := o.Transport
	switch {
	case t == nil || o.Heap == nil || o.Memory == nil:
		return nil, fmt.Errorf("block device: Transport, Heap and Memory are needed")
	case o.Queues < 0 || o.Direct < 0 || o.Direct > o.Queues || o.Segments < 0 || o.BounceCount < 0:
		return nil, fmt.Errorf("block device: %d queues, %d of them direct, %d segments, %d bounce buffers: that cannot be",
			o.Queues, o.Direct, o.Segments, o.BounceCount)
	case o.Size&(o.Size-1) != 0 || o.Size < 4 || o.Size > virtio.MaxSize:
		return nil, fmt.Errorf("block device: rings of %d descriptors: it must be a power of two from 4 to %d", o.Size, virtio.MaxSize)
	case o.BounceSize%4096 != 0 || o.BounceSize > 1<<30:
		return nil, fmt.Errorf("block device: bounce buffers of %d bytes: it must be a multiple of 4096 up to 1 GiB", o.BounceSize)
	case o.Queues > t.Queues():
		return nil, fmt.Errorf("block device: %d queues wanted, the device has %d", o.Queues, t.Queues())
	case !t.Features().Has(needed):
		return nil, fmt.Errorf("block device: it does not offer VERSION_1: legacy devices are not driven")
	}
	d := &Disk{o: o, broken: make(chan struct{}, 1), retry: make(chan struct{}, 1)}
	d.features = t.Features() & (o.Features&usable | needed)
	if t.Features().Has(FeatureRO) {
		d.features |= FeatureRO // it holds whether we know it or not
	}
	if s, ok := t.(interface {
		Shares(addr memtable.IOVA, n uint64) bool
	}); ok {
		d.shares = s.Shares
	}
	return d, nil
}

// readConfig asks for as much of the configuration space as there is.
func (d *Disk) readConfig(ctx context.Context) (Config, error) {
	p := make([]byte, configEnd(d.features))
	if err := d.o.Transport.ReadConfig(ctx, 0, p); err != nil {
		return Config{}, fmt.Errorf("block device: configuration space: %w", err)
	}
	return ParseConfig(p, d.features)
}

// alloc borrows zeroed memory until the disk is closed. Memory that is aligned to
// its size, rounded up to a power of two, lies in one extent of its arena: the
// device finds all of it in one region.
func (d *Disk) alloc(ctx context.Context, n, align uint64) (memtable.Buf, error) {
	b, err := d.o.Heap.Alloc(ctx, n, max(align, uint64(1)<<bits.Len64(n-1)))
	if err != nil {
		return b, fmt.Errorf("block device: memory: %w", err)
	}
	d.lent = append(d.lent, b)
	clear(b.VA.Bytes(n))
	return b, nil
}

// free gives back what alloc borrowed, when no device can reach it.
func (d *Disk) free() (err error) {
	for _, b := range d.lent {
		if e := d.o.Heap.Free(b); err == nil {
			err = e
		}
	}
	d.lent = nil
	return err
}

func (d *Disk) makeQueues(ctx context.Context, c Config) error {
	if d.o.Queues > int(c.Queues) {
		return fmt.Errorf("block device: %d queues wanted, num_queues is %d", d.o.Queues, c.Queues)
	}
	for i := range d.o.Queues {
		q, err := d.newQueue(ctx, i, c)
		if err != nil {
			return err
		}
		d.queues = append(d.queues, q)
	}
	return nil
}

func (d *Disk) makeBounce(ctx context.Context) error {
	d.bounce = make(chan memtable.Buf, d.o.BounceCount)
	if d.own() == 0 {
		return nil
	}
	for range d.o.BounceCount {
		// Devices with O_DIRECT behind them want buffers aligned as pages are.
		b, err := d.alloc(ctx, uint64(d.o.BounceSize), 4096)
		if err != nil {
			return err
		}
		d.bounce <- b
	}
	return nil
}

// start connects all queues that serve, and starts the device. It is called
// with no queue's lock held.
func (d *Disk) start(ctx context.Context) error {
	lines := make([]virtio.Line, len(d.queues))
	for i, q := range d.queues {
		if q.Err() != nil {
			continue
		}
		place, err := q.where()
		if err != nil {
			return fmt.Errorf("queue %d: %w", i, err)
		}
		line, err := d.o.Transport.Connect(ctx, i, place)
		if err != nil {
			return fmt.Errorf("queue %d: %w", i, err)
		}
		lines[i] = line
	}
	for i, q := range d.queues {
		if lines[i] != nil {
			q.show()
		}
	}
	if err := d.o.Transport.Start(ctx); err != nil {
		return err
	}
	for i, q := range d.queues {
		if lines[i] != nil {
			q.resume(lines[i])
		}
	}
	return nil
}

// patience is how long a device that failed in Open may take to let go.
const patience = 15 * time.Second

// undo ends an Open that failed, most often because ctx ended.
func (d *Disk) undo(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := d.o.Transport.Reset(ctx); err != nil {
		return // the device may still reach the memory: it stays lent
	}
	_ = d.free()
}
