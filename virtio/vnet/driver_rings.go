package vnet

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// makeRings makes all queues, which no device has yet.
func (d *Driver) makeRings(ctx context.Context) error {
	limit := uint32(1<<32 - 1)
	if d.features.Has(FeatureMTU) {
		limit = Headroom + minFrame + 4 + uint32(d.state.MTU) // and a VLAN tag
	}
	for i := range d.cfg.Pairs {
		rx := &Rx{need: bufferSize(d.features, d.state.MTU), offload: leaves(d.features)}
		rx.got = make([]memtable.Buf, 0, max(int(d.cfg.Size), burstMax))
		if err := d.makeRing(ctx, &rx.ring, 2*i, 0); err != nil {
			return err
		}
		tx := &Tx{longest: limit}
		headers, err := d.alloc(ctx, headerStride*uint64(d.cfg.Size))
		if err != nil {
			return err
		}
		tx.chains = newChains(d.cfg.Size, headers)
		if err := d.makeRing(ctx, &tx.ring, 2*i+1, longest); err != nil {
			return err
		}
		d.rx, d.tx = append(d.rx, rx), append(d.tx, tx)
	}
	return nil
}

// makeRing makes ring i with indirect tables for chains of so many buffers.
func (d *Driver) makeRing(ctx context.Context, r *ring, i, pieces int) error {
	r.d, r.index, r.bufs, r.changed = d, i, d.cfg.Buffers(i), make(chan struct{})
	r.reach.mem = d.cfg.Memory
	r.reach.shares, _ = d.t.(sharer)
	mem, err := d.alloc(ctx, virtio.RingBytes(d.cfg.Size))
	if err != nil {
		return err
	}
	place, err := virtio.PlaceRing(mem, d.cfg.Size)
	if err != nil {
		return err
	}
	o := virtio.DriverOptions{Index: i, Features: d.features, Placement: place, Memory: d.cfg.Memory}
	if pieces > 0 && d.features.Has(virtio.FeatureIndirect) {
		if o.Indirect, err = d.alloc(ctx, 16*uint64(pieces)*uint64(d.cfg.Size)); err != nil {
			return err
		}
	}
	r.q, err = virtio.NewDriverQueue(o)
	return err
}

// alloc gets memory that is freed with the rings. It is aligned to its size,
// rounded up to a power of two, and so lies in one extent of its arena: the device
// finds all of it in one region.
func (d *Driver) alloc(ctx context.Context, n uint64) (memtable.Buf, error) {
	b, err := d.cfg.Rings.AllocZero(ctx, n, max(64, uint64(1)<<bits.Len64(n-1)))
	if err != nil {
		return b, fmt.Errorf("memory for rings of %d descriptors: %w", d.cfg.Size, err)
	}
	d.memory = append(d.memory, b)
	return b, nil
}

// freeRings gives the memory of all rings back, which no device has any more.
func (d *Driver) freeRings() (err error) {
	for _, b := range d.memory {
		err = errors.Join(err, d.cfg.Rings.Free(b))
	}
	d.memory = nil
	return err
}

// tryBuffers looks at one buffer of each ring to receive in, to say at the start
// what else would only be counted.
func (d *Driver) tryBuffers() error {
	for _, r := range d.rx {
		if err := r.tryBuffers(); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rx) tryBuffers() error {
	one := r.back[:1]
	if r.bufs.Get(one) == 0 {
		return fmt.Errorf("receive ring %d: %w", r.index, ErrNoBuffers)
	}
	b := one[0]
	r.bufs.Put(one)
	r.reach.begin()
	switch {
	case b.Cap < r.need:
		return fmt.Errorf("receive ring %d: buffers of %d bytes, but the features that were agreed on need %d (virtio 1.2, 5.1.6.3.1): "+
			"make them larger, or use MRG_RXBUF", r.index, b.Cap, r.need)
	case !r.reach.has(b.Addr, b.Cap):
		return fmt.Errorf("receive ring %d: its buffers lie in memory that is not shared with the device: "+
			"take them from the arena that the transport follows", r.index)
	}
	return nil
}

// all gives every ring, in order of index.
func (d *Driver) all(yield func(*ring) bool) {
	for i := range d.rx {
		if !yield(&d.rx[i].ring) || !yield(&d.tx[i].ring) {
			return
		}
	}
}

// reclaim takes back all that is lent, when no device has the rings any more.
func (d *Driver) reclaim() {
	for i := range d.rx {
		d.rx[i].set(d.rx[i].reclaim)
		d.tx[i].set(d.tx[i].reclaim)
	}
}

// renew has a ring begin anew, which no device has.
func (d *Driver) renew(r *ring) error {
	return r.guard(func() error {
		if pair := r.index / 2; r.index%2 == 0 {
			d.rx[pair].reclaim()
		} else {
			d.tx[pair].reclaim()
		}
		r.q.Reset()
		return nil
	})
}

// serve gives all rings to a device that agreed on the features, and starts it.
// If goOn is true they go on where they were: what is lent stays so.
func (d *Driver) serve(ctx context.Context, goOn bool) error {
	for r := range d.all {
		if !goOn || d.takeOver(r) != nil {
			if err := d.renew(r); err != nil {
				return err
			}
		}
		if err := d.connect(ctx, r); err != nil {
			return err
		}
	}
	if err := d.t.Start(ctx); err != nil {
		return err
	}
	for r := range d.all {
		d.run(r)
	}
	d.edit(func(s *state) { s.present = true })
	return nil
}

// takeOver makes a ring ready to go on where it is, with another device. If that
// cannot be, it must begin anew.
func (d *Driver) takeOver(r *ring) error {
	if r.index%2 == 0 {
		if err := r.guard(func() error { d.rx[r.index/2].cutOff(); return nil }); err != nil {
			return err
		}
	}
	return r.isBroken()
}

// connect gives a ring to the device, with buffers to receive in.
func (d *Driver) connect(ctx context.Context, r *ring) error {
	used := r.index/2 < d.now().pairs
	if err := d.t.Enable(ctx, r.index, used); err != nil && !used {
		return err
	}
	var where virtio.Placement
	if err := r.guard(func() error { where = r.q.Where(); return r.q.Err() }); err != nil {
		return err
	}
	line, err := d.t.Connect(ctx, r.index, where)
	if err != nil {
		return err
	}
	r.set(func() {
		r.line, r.why = line, nil
		r.q.Connect(line)
	})
	if r.index%2 == 0 {
		d.rx[r.index/2].stock()
	}
	return nil
}

// stock fills a ring that no device serves yet.
func (r *Rx) stock() {
	r.enter()
	defer r.leave()
	r.fill()
	r.q.Publish()
}

// run lets the worker use a ring that the device serves.
func (d *Driver) run(r *ring) {
	r.enter()
	defer r.leave()
	r.running, r.held = r.why == nil, r.index/2 >= d.now().sending
	r.publish()
	r.wake()
}
