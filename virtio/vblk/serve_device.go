package vblk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/vhostd/vhostd/virtio"
)

// DeviceOptions say what a device is. Storage is needed.
type DeviceOptions struct {
	Storage   Storage
	ReadOnly  bool
	Discard   bool   // the storage can discard
	Serial    string // what GET_ID answers, up to 20 bytes
	Queues    int    // request queues; 0: 1
	BlockSize uint32 // bytes; 0: 512
	// Parallel is how many requests of one ring are done at the same time; 0: 1.
	// It pays where the storage is slow to answer, and costs where it is the
	// page cache.
	Parallel int
}

// Device is the device's side of a disk. It outlives its connections, of which
// it has one at a time (see vhost.Server).
type Device struct {
	o         DeviceOptions
	config    Config        // but for what follows
	capacity  atomic.Uint64 // sectors
	writeback atomic.Bool   // what the driver chose (virtio 1.2, 5.2.5.2)
	count     counters
}

// What a device takes in one request. Twice the most that a driver of today
// sends, and little enough for a ring to be back soon when it has to stop.
const (
	deviceSizeMax  = 1 << 20 // bytes of a buffer
	deviceSegMax   = 126     // buffers, with header and status a ring of 128
	deviceDataMax  = deviceSizeMax * deviceSegMax
	discardSegs    = 32
	discardSectors = 1 << 22 // 2 GiB
	zeroesSegs     = 8
	zeroesSectors  = 1 << 16 // 32 MiB: they may have to be written
)

// NewDevice makes a device of a storage.
func NewDevice(o DeviceOptions) (*Device, error) {
	o.Queues, o.Parallel, o.BlockSize = max(o.Queues, 1), max(o.Parallel, 1), max(o.BlockSize, SectorSize)
	if len(o.Serial) > IDLen {
		return nil, fmt.Errorf("the serial %q is longer than %d bytes", o.Serial, IDLen)
	}
	d := &Device{o: o, config: Config{
		SizeMax: deviceSizeMax, SegMax: deviceSegMax, BlockSize: o.BlockSize, Queues: uint16(o.Queues),
		DiscardSectors: discardSectors, DiscardSegs: discardSegs, DiscardAlign: o.BlockSize / SectorSize,
		ZeroesSectors: zeroesSectors, ZeroesSegs: zeroesSegs, ZeroesUnmap: o.Discard,
	}}
	if _, err := d.Refresh(); err != nil {
		return nil, err
	}
	return d, d.snapshot().check()
}

// Refresh asks the storage for its size, and says whether that has changed. The
// front-end is to be told then (vhost.Session.NotifyConfig). Requests that were
// begun go by the old one.
func (d *Device) Refresh() (changed bool, err error) {
	size, err := d.o.Storage.Size()
	if err != nil {
		return false, err
	}
	// A block that is there in part is not there.
	sectors := uint64(max(size, 0)) / uint64(d.o.BlockSize) * uint64(d.o.BlockSize/SectorSize)
	return d.capacity.Swap(sectors) != sectors, nil
}

// Features are the block device's bits that are offered.
func (d *Device) Features() virtio.Features {
	f := FeatureSizeMax | FeatureSegMax | FeatureBlkSize | FeatureFlush | FeatureMQ
	if d.o.ReadOnly {
		return f | FeatureRO
	}
	f |= FeatureConfigWCE | FeatureWriteZeroes
	if d.o.Discard {
		f |= FeatureDiscard
	}
	return f
}

// Queues is how many request queues there are.
func (d *Device) Queues() int { return d.o.Queues }

// Capacity is the size that drivers are told, in sectors.
func (d *Device) Capacity() uint64 { return d.capacity.Load() }

// snapshot is the configuration space as it is now.
func (d *Device) snapshot() Config {
	c := d.config
	c.Capacity, c.Writeback = d.capacity.Load(), d.writeback.Load()
	return c
}

// ReadConfig implements vhost.Configurer.
func (d *Device) ReadConfig(p []byte, off int64) (int, error) {
	space, err := d.snapshot().AppendBinary(nil)
	if err != nil {
		return 0, err
	}
	if off < 0 || off >= int64(len(space)) {
		return 0, io.EOF
	}
	n := copy(p, space[off:])
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

var errReadOnlyConfig = errors.New("only writeback can be written, and only as 0 or 1")

// WriteConfig implements vhost.Configurer: of the fields that are written only
// writeback may change.
func (d *Device) WriteConfig(p []byte, off int64) (int, error) {
	if off < 0 || off > ConfigLen || int64(len(p)) > ConfigLen-off {
		return 0, errReadOnlyConfig
	}
	now := make([]byte, len(p))
	if _, err := d.ReadConfig(now, off); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if at := offWriteback - off; at >= 0 && at < int64(len(p)) && p[at] <= 1 && !d.o.ReadOnly {
		now[at] = p[at]
		if bytes.Equal(now, p) {
			d.writeback.Store(p[at] == 1)
			return len(p), nil
		}
	}
	if bytes.Equal(now, p) {
		return len(p), nil
	}
	return 0, errReadOnlyConfig
}
