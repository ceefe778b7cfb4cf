package vblk

import (
	"bytes"
	"context"
	"fmt"
	"math"

	"github.com/vhostd/vhostd/memtable"
)

// Flush makes durable what was written, and whose write had returned, before it
// was called. Without FLUSH every write is durable when it returns.
func (d *Disk) Flush(ctx context.Context) error {
	if !d.features.Has(FeatureFlush) {
		return nil
	}
	return wrap(TypeFlush, 0, 0, d.do(ctx, once(Request{Type: TypeFlush}), nil, nil))
}

// once gives one request.
func once(one Request) func(*Request) bool {
	given := false
	return func(r *Request) bool {
		if given {
			return false
		}
		*r, given = one, true
		return true
	}
}

// ID asks for the device's name, up to 20 bytes.
func (d *Disk) ID(ctx context.Context) (id string, err error) {
	bufs, err := d.takeBounce(ctx, IDLen)
	if err == nil {
		err = d.do(ctx, once(Request{Type: TypeGetID, Bufs: bufs}), bufs, func() {
			name, _, _ := bytes.Cut(bufs[0].VA.Bytes(IDLen), []byte{0})
			id = string(name)
		})
	}
	return id, wrap(TypeGetID, 0, IDLen, err)
}

// Range is a run of sectors of 512 bytes.
type Range struct{ Sector, Sectors uint64 }

// Discard tells the device that ranges are not needed any more. What they read
// afterwards is the device's choice. Ranges are multiples of the block size.
func (d *Disk) Discard(ctx context.Context, ranges []Range) error {
	c := d.config.Load()
	return d.ranges(ctx, TypeDiscard, ranges, 0, c.DiscardSectors, c.DiscardSegs)
}

// WriteZeroes makes ranges read as zero; with unmap the device may give up the
// room they take. Ranges are multiples of the block size.
func (d *Disk) WriteZeroes(ctx context.Context, ranges []Range, unmap bool) error {
	c, flags := d.config.Load(), uint32(0)
	if unmap {
		flags = Unmap
	}
	return d.ranges(ctx, TypeWriteZeroes, ranges, flags, c.ZeroesSectors, c.ZeroesSegs)
}

// ranges does one request after the other, as many as it takes: sectors and
// segments are the device's limits, 0 being none and one.
func (d *Disk) ranges(ctx context.Context, t Type, ranges []Range, flags, sectors, segments uint32) error {
	todo := make([]Range, 0, len(ranges))
	for _, r := range ranges {
		if err := d.checkRange(t, r); err != nil {
			return wrap(t, r.Sector, 0, err)
		}
		if r.Sectors > 0 {
			todo = append(todo, r)
		}
	}
	if sectors == 0 {
		sectors = math.MaxUint32
	}
	block := d.config.Load().BlockSize / SectorSize
	longest := max(sectors/block, 1) * block
	most := min(max(int(segments), 1), int(d.o.BounceSize)/SegmentLen)
	for len(todo) > 0 {
		sector := todo[0].Sector
		bufs, err := d.takeBounce(ctx, SegmentLen)
		if err != nil {
			return wrap(t, sector, 0, err)
		}
		if err := memtable.Guard(func() error {
			todo = encode(&bufs[0], todo, flags, longest, most)
			return nil
		}); err != nil {
			d.putBounce(bufs)
			return wrap(t, sector, 0, err)
		}
		n := uint64(bufs[0].Len)
		if err := d.do(ctx, once(Request{Type: t, Bufs: bufs}), bufs, nil); err != nil {
			return wrap(t, sector, n, err)
		}
	}
	return nil
}

// checkRange says whether a range can be discarded or zeroed.
func (d *Disk) checkRange(t Type, r Range) error {
	c := d.config.Load()
	block := uint64(c.BlockSize / SectorSize)
	switch {
	case d.ReadOnly():
		return ErrReadOnly
	case d.own() == 0:
		return ErrNoQueue
	case r.Sectors > c.Capacity || r.Sector > c.Capacity-r.Sectors:
		return ErrRange
	case r.Sector%block != 0 || r.Sectors%block != 0:
		return ErrAlign
	}
	return d.checkForm(t, 0, SegmentLen)
}

// encode writes up to most segments of up to longest sectors into b, and gives
// the ranges that are left.
func encode(b *memtable.Buf, todo []Range, flags, longest uint32, most int) []Range {
	b.Len = 0
	for ; most > 0 && len(todo) > 0; most-- {
		r := &todo[0]
		n := min(r.Sectors, uint64(longest))
		s := Segment{r.Sector, uint32(n), flags}
		s.Encode((*[SegmentLen]byte)(b.VA.Add(uint64(b.Len)).Bytes(SegmentLen)))
		b.Len += SegmentLen
		if r.Sector, r.Sectors = r.Sector+n, r.Sectors-n; r.Sectors == 0 {
			todo = todo[1:]
		}
	}
	return todo
}

// SetWriteback chooses whether completed writes may be lost until they are
// flushed (virtio 1.2, 5.2.5.2). Without CONFIG_WCE it is not the driver's to
// choose.
func (d *Disk) SetWriteback(ctx context.Context, on bool) error {
	if !d.features.Has(FeatureConfigWCE) {
		return fmt.Errorf("writeback: %w", ErrUnsupported)
	}
	d.transport.Lock()
	defer d.transport.Unlock()
	if err := d.o.Transport.WriteConfig(ctx, offWriteback, []byte{flag(on)}); err != nil {
		return fmt.Errorf("writeback: %w", err)
	}
	return d.refresh(ctx)
}
