package vblk

import (
	"fmt"

	"github.com/vhostd/vhostd/virtio"
)

// doRanges discards or zeroes. All ranges are checked before the first is done:
// a request that is refused changes nothing.
func (a *Attachment) doRanges(t Type, list []byte) error {
	d := a.d
	segs, sectors, flags, feature := uint32(discardSegs), uint32(discardSectors), uint32(0), FeatureDiscard
	if t == TypeWriteZeroes {
		segs, sectors, flags, feature = zeroesSegs, zeroesSectors, Unmap, FeatureWriteZeroes
	}
	if !virtio.Features(a.features.Load()).Has(feature) {
		return ErrUnsupported
	}
	n := len(list) / SegmentLen
	if n == 0 || len(list)%SegmentLen != 0 || n > int(segs) {
		return fmt.Errorf("%w: %d bytes of ranges", errRefused, len(list))
	}
	capacity := d.capacity.Load()
	for s := range segmentsOf(list) {
		switch {
		case s.Flags&^flags != 0: // virtio 1.2, 5.2.6.2: UNSUPP, and not IOERR
			return fmt.Errorf("flags %#x: %w", s.Flags, ErrUnsupported)
		case s.Sectors > sectors || uint64(s.Sectors) > capacity || s.Sector > capacity-uint64(s.Sectors):
			return fmt.Errorf("%w: a range is too large or past the end of the disk", errRefused)
		}
	}
	for s := range segmentsOf(list) {
		if err := d.doRange(t, s); err != nil {
			return err
		}
	}
	if a.durable() {
		return d.o.Storage.Sync()
	}
	return nil
}

func (d *Device) doRange(t Type, s Segment) error {
	off, n := int64(s.Sector*SectorSize), int64(s.Sectors)*SectorSize
	switch {
	case n == 0:
		return nil
	case t == TypeDiscard:
		return d.o.Storage.Discard(off, n)
	}
	return d.o.Storage.Zero(off, n, s.Flags&Unmap != 0)
}

// segmentsOf yields the ranges in a list whose length was checked.
func segmentsOf(list []byte) func(yield func(Segment) bool) {
	return func(yield func(Segment) bool) {
		for ; len(list) > 0; list = list[SegmentLen:] {
			if !yield(DecodeSegment((*[SegmentLen]byte)(list))) {
				return
			}
		}
	}
}
