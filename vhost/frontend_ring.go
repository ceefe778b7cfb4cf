package vhost

import (
	"context"
	"errors"
	"fmt"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// frontRing is a ring as the driver sees it. It is the turn's.
type frontRing struct {
	index     int
	off       bool // Enable(false)
	placement virtio.Placement
	line      *line // nil: not connected
	running   bool  // the back-end serves it: SET_VRING_KICK was sent
}

// ring gives ring i.
func (f *Frontend) ring(i int) (*frontRing, error) {
	if i < 0 || i >= len(f.rings) {
		return nil, fmt.Errorf("ring %d: the device has %d", i, len(f.rings))
	}
	return f.rings[i], nil
}

// Connect implements [virtio.Transport]. The ring must lie in memory that is
// shared: each of its parts in one region. Before Start nothing is sent; after
// it the ring is served when Connect returns.
//
// When rings resume (Back), the position of a split ring is read back from its
// used index, whatever p says: what a back-end took and did not give back is
// its successor's.
func (f *Frontend) Connect(ctx context.Context, i int, p virtio.Placement) (virtio.Line, error) {
	made := make(chan *line, 1)
	err := f.ask(ctx, func(l *peerLink) error {
		r, err := f.ring(i)
		switch {
		case err != nil:
			return err
		case !f.agreed:
			return errors.New("features must be accepted before rings are connected")
		case r.line != nil:
			return fmt.Errorf("ring %d is connected already: Disconnect it first", i)
		}
		if err := f.checkPlacement(i, p); err != nil {
			return err
		}
		r.placement = p
		if f.resuming && !f.accepted.Has(virtio.FeaturePacked) {
			if r.placement.Position, err = usedPosition(p); err != nil {
				return fmt.Errorf("ring %d cannot be read: %w", i, err)
			}
		}
		if r.line, err = l.newLine(i); err != nil {
			return err
		}
		if f.started {
			err = f.serve(l, r)
		}
		if err != nil {
			if r.running && l.conn.broken == nil {
				_, _ = f.stop(l, r)
			}
			f.drop(r, err)
			return err
		}
		made <- r.line
		return nil
	}, func(l *peerLink) {
		if r := f.rings[i]; r.running {
			_, _ = f.stop(l, r)
		}
		f.drop(f.rings[i], ErrDisconnected)
	})
	if err != nil {
		return nil, err
	}
	return <-made, nil
}

// checkPlacement holds a ring against what the back-end can be told, and what
// it can reach.
func (f *Frontend) checkPlacement(i int, p virtio.Placement) error {
	desc, avail, used := virtio.SplitSizes(p.Size)
	if f.accepted.Has(virtio.FeaturePacked) {
		avail, used = 4, 4 // virtio 1.2, 2.8.14: the event suppression structures
	} else if p.Size&(p.Size-1) != 0 {
		return fmt.Errorf("ring %d of %d descriptors: a split ring has a power of two", i, p.Size)
	}
	if p.Size == 0 || p.Size > f.cfg.QueueMax {
		return fmt.Errorf("ring %d of %d descriptors: it has 1 to %d", i, p.Size, f.cfg.QueueMax)
	}
	if r := f.record; r != nil && p.Size > r.QueueSize {
		return fmt.Errorf("ring %d of %d descriptors: the record of what is in flight is for %d", i, p.Size, r.QueueSize)
	}
	for _, part := range []struct {
		name string
		buf  memtable.Buf
		size uint64
	}{{"descriptor table", p.Desc, desc}, {"available ring", p.Avail, avail}, {"used ring", p.Used, used}} {
		if !f.share.tells(part.buf.VA.UVA(), part.buf.Addr, part.size) {
			return fmt.Errorf("the %s of ring %d, %d bytes at %#x: %w", part.name, i, part.size, uint64(part.buf.Addr), ErrNotShared)
		}
	}
	return nil
}

// usedPosition is where a split ring goes on behind a back-end that is gone
// (vhost-user, "Reconnecting after an error"). That one may have made the ring's
// memory vanish.
func usedPosition(p virtio.Placement) (at virtio.Position, err error) {
	desc, avail, used := virtio.SplitSizes(p.Size)
	ring := virtio.Ring{Size: p.Size, Desc: p.Desc.VA.Bytes(desc), Avail: p.Avail.VA.Bytes(avail), Used: p.Used.VA.Bytes(used)}
	err = memtable.Guard(func() error {
		at = virtio.Position(virtio.UsedIndex(ring))
		return nil
	})
	return at, err
}

// serve has the back-end serve r: size, position and place first, the kick file
// last, since that starts the ring; and one kick, for back-ends that start with
// the first.
func (f *Frontend) serve(l *peerLink, r *frontRing) error {
	i, p := r.index, r.placement
	addr := VringAddr{
		Index: uint32(i), Desc: p.Desc.VA.UVA(), Avail: p.Avail.VA.UVA(), Used: p.Used.VA.UVA(),
	}
	for _, tell := range []func() error{
		func() error { return l.conn.SetVringNum(i, uint32(p.Size)) },
		func() error { return l.conn.SetVringBase(i, p.Position) },
		func() error { return l.conn.SetVringAddr(addr) },
		func() error { return l.conn.SetVringCall(i, r.line.callFD) },
		func() error { return l.conn.SetVringErr(i, r.line.errFD) },
	} {
		if err := tell(); err != nil {
			return err
		}
	}
	r.running = true // refused or not: some start it, and complain
	if err := l.conn.SetVringKick(i, r.line.kickFD); err != nil {
		return err
	}
	r.line.Ring()
	if r.off || !l.offered.Has(virtio.FeatureProtocol) {
		return l.barrier()
	}
	return f.enable(l, r, true)
}

// enable sends SET_VRING_ENABLE and waits until it holds.
func (f *Frontend) enable(l *peerLink, r *frontRing, on bool) error {
	if err := l.conn.SetVringEnable(r.index, on); err != nil {
		return err
	}
	return l.barrier()
}

// Enable implements [virtio.Transport]. Rings are enabled unless this says
// otherwise; it is remembered for rings that are not connected yet.
func (f *Frontend) Enable(ctx context.Context, i int, on bool) error {
	return f.ask(ctx, func(l *peerLink) error {
		r, err := f.ring(i)
		if err != nil {
			return err
		}
		if !l.offered.Has(virtio.FeatureProtocol) {
			if on {
				return nil // vhost-user, "Ring states": they all are
			}
			return fmt.Errorf("ring %d: the back-end cannot disable rings: %w", i, errors.ErrUnsupported)
		}
		if r.running && r.off == on {
			if err := f.enable(l, r, on); err != nil {
				return err
			}
		}
		r.off = !on
		return nil
	}, nil)
}

// Disconnect implements [virtio.Transport]: GET_VRING_BASE.
func (f *Frontend) Disconnect(ctx context.Context, i int) (virtio.Position, error) {
	at := make(chan virtio.Position, 1)
	err := f.ask(ctx, func(l *peerLink) error {
		r, err := f.ring(i)
		if err != nil {
			return err
		}
		if r.line == nil {
			return fmt.Errorf("ring %d: %w", i, ErrDisconnected)
		}
		p := r.placement.Position
		if r.running {
			if p, err = f.stop(l, r); err != nil {
				return err
			}
		}
		f.drop(r, ErrDisconnected)
		at <- p
		return nil
	}, nil)
	if err != nil {
		return 0, err
	}
	return <-at, nil
}

// stop takes r back from the back-end.
func (f *Frontend) stop(l *peerLink, r *frontRing) (virtio.Position, error) {
	p, err := l.conn.GetVringBase(r.index)
	if err != nil {
		return 0, err
	}
	r.running = false
	if f.accepted.Has(virtio.FeaturePacked) {
		if p>>16 == 0 { // a back-end that answers with one half uses it for both
			p |= p << 16
		}
		return p, nil
	}
	if p>>16 != 0 {
		l.conn.broken = &ProtocolError{GetVringBase, fmt.Errorf("position %#x: the index of a split ring has 16 bits", uint32(p))}
		return 0, l.conn.broken
	}
	return p, nil
}

// drop forgets that r was connected.
func (f *Frontend) drop(r *frontRing, why error) {
	if r.line != nil {
		r.line.close(why)
	}
	r.line, r.running, r.placement = nil, false, virtio.Placement{}
}
