package vblk

import (
	"context"
	"fmt"
	"io"

	"github.com/vhostd/vhostd/memtable"
)

// ReadBufs reads Len bytes into each of bufs, from sector on, without a copy. The
// memory must be shared with the device; in all it is a multiple of the block
// size. The error is a [*RequestError]; with a [*LentError] in it the buffers
// are not the caller's yet.
func (d *Disk) ReadBufs(ctx context.Context, sector uint64, bufs []memtable.Buf) error {
	return d.transfer(ctx, TypeIn, sector, bufs, nil, nil)
}

// WriteBufs writes Len bytes of each of bufs, from sector on, without a copy.
// They must not change until it returns. Otherwise it is as ReadBufs is.
func (d *Disk) WriteBufs(ctx context.Context, sector uint64, bufs []memtable.Buf) error {
	return d.transfer(ctx, TypeOut, sector, bufs, nil, nil)
}

// transfer moves data in as many requests as it takes. bounce goes back to the
// disk when the device is done with it, and after then, which a success calls.
func (d *Disk) transfer(ctx context.Context, t Type, sector uint64, bufs, bounce []memtable.Buf, then func()) error {
	n := size(bufs)
	s := split{kind: t, sector: sector, bufs: bufs, block: d.config.Load().BlockSize}
	err := d.checkForm(t, sector, n)
	switch {
	case t.writes() && d.ReadOnly():
		err = ErrReadOnly
	case d.own() == 0:
		err = ErrNoQueue
	}
	if err != nil {
		d.putBounce(bounce)
	} else {
		s.limits = d.queues[0].limits
		if err = d.do(ctx, s.next, bounce, then); err == nil {
			err = s.err
		}
	}
	return wrap(t, sector, n, err)
}

// wrap says which request failed.
func wrap(t Type, sector, n uint64, err error) error {
	if err == nil {
		return nil
	}
	return &RequestError{t, sector, n, err}
}

// ReadAt implements [io.ReaderAt], off in bytes and of any alignment, through
// bounce buffers.
func (d *Disk) ReadAt(p []byte, off int64) (n int, err error) {
	end := int64(d.config.Load().Capacity) * SectorSize
	switch {
	case off < 0:
		return 0, fmt.Errorf("block device: negative offset %d", off)
	case off >= end && len(p) > 0:
		return 0, io.EOF
	case int64(len(p)) > end-off:
		p, err = p[:end-off], io.EOF
	}
	ctx, cancel := d.deadline()
	defer cancel()
	for n < len(p) {
		m, err := d.readSome(ctx, p[n:], off+int64(n))
		if n += m; err != nil {
			return n, err
		}
	}
	return n, err
}

// readSome reads as much as there are bounce buffers for.
func (d *Disk) readSome(ctx context.Context, p []byte, off int64) (n int, err error) {
	block := int64(d.config.Load().BlockSize)
	skip := int(off & (block - 1))
	first := off - int64(skip)
	want := (int64(skip) + int64(len(p)) + block - 1) &^ (block - 1)
	bufs, err := d.takeBounce(ctx, int(want))
	if err != nil {
		return 0, err
	}
	err = d.transfer(ctx, TypeIn, uint64(first)/SectorSize, bufs, bufs, func() {
		for _, b := range bufs {
			from := b.VA.Bytes(uint64(b.Len))
			k := min(skip, len(from))
			skip -= k
			n += copy(p[n:], from[k:])
		}
	})
	return n, err
}

// WriteAt implements [io.WriterAt], off in bytes, through bounce buffers. Offset
// and length must be multiples of the block size: less than a block cannot be
// written without reading the rest of it, and others may write there.
func (d *Disk) WriteAt(p []byte, off int64) (n int, err error) {
	block := int64(d.config.Load().BlockSize)
	if off < 0 || off%block != 0 || int64(len(p))%block != 0 {
		return 0, fmt.Errorf("block device: %d bytes at offset %d: %w", len(p), off, ErrAlign)
	}
	ctx, cancel := d.deadline()
	defer cancel()
	for n < len(p) {
		bufs, err := d.takeBounce(ctx, len(p)-n)
		if err != nil {
			return n, err
		}
		m := 0
		if err := memtable.Guard(func() error {
			for _, b := range bufs {
				m += copy(b.VA.Bytes(uint64(b.Len)), p[n+m:])
			}
			return nil
		}); err != nil {
			d.putBounce(bufs)
			return n, wrap(TypeOut, uint64(off+int64(n))/SectorSize, uint64(m), err)
		}
		if err := d.transfer(ctx, TypeOut, uint64(off+int64(n))/SectorSize, bufs, bufs, nil); err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

var (
	_ io.ReaderAt = (*Disk)(nil)
	_ io.WriterAt = (*Disk)(nil)
)
