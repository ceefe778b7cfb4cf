package blkbench

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/backend"
	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// Config is what a run shall do.
type Config struct {
	backend.Address

	Block      uint64 // bytes of each request
	Depth      int    // requests in flight in each queue
	Queues     int
	Ring       int    // descriptors of each queue
	Sequential bool   // each queue one block after the other; else anywhere
	Reads      int    // of a hundred requests; the others write
	Flush      int    // after so many writes, in each queue; 0: never
	Size       uint64 // bytes of the disk that are used, from its beginning; 0: all

	Write  bool // it is allowed
	Verify bool // contents are patterns, and held against what was written

	Count    uint64        // requests, all queues together; 0: no end
	Duration time.Duration // 0: no end
	Late     time.Duration // how long a request may take at the end
	Poll     bool          // workers never park
	Memory   memfd.Options
}

// Most that a run may have.
const (
	mostDepth  = 1024
	mostQueues = 256     // vhost-user numbers no more
	mostBlock  = 4 << 20 // bytes
	mostKnown  = 1 << 28 // blocks that verifying keeps a number of, 4 bytes each
)

// errWrite is what stands between a typing error and somebody's disk.
var errWrite = errors.New("this writes over what is on the disk: say --write if that is meant")

// check says what is wrong with a configuration before there is a disk.
func (c *Config) check() error {
	if c.Verify && c.Reads == 100 {
		c.Reads = 50 // there is nothing to read that was not written
	}
	switch {
	case c.Reads < 0 || c.Reads > 100:
		return fmt.Errorf("%d reads of a hundred requests: use 0 to 100", c.Reads)
	case c.Reads < 100 && !c.Write:
		return errWrite
	case c.Block < vblk.SectorSize || c.Block > mostBlock || c.Block%vblk.SectorSize != 0:
		return fmt.Errorf("blocks of %d bytes: use a multiple of %d up to %d", c.Block, vblk.SectorSize, mostBlock)
	case c.Queues < 1 || c.Queues > mostQueues:
		return fmt.Errorf("%d queues: use 1 to %d", c.Queues, mostQueues)
	case c.Ring < 4 || c.Ring > 32768 || bits.OnesCount(uint(c.Ring)) != 1:
		return fmt.Errorf("rings of %d: use a power of two from 4 to 32768", c.Ring)
	case c.Depth < 1 || c.Depth > mostDepth:
		return fmt.Errorf("%d requests in flight: use 1 to %d", c.Depth, mostDepth)
	case c.Flush < 0:
		return fmt.Errorf("a flush after %d writes: use 0 for never", c.Flush)
	}
	return nil
}

// fit says whether the disk can do that, and how many blocks each queue has.
func (c *Config) fit(d *vblk.Disk, l vblk.Limits) (blocks uint64, err error) {
	disk := d.Config()
	size := disk.Capacity * vblk.SectorSize
	if c.Size > size {
		return 0, fmt.Errorf("%d bytes of a disk that has %d: use a smaller --region", c.Size, size)
	}
	if c.Size > 0 {
		size = c.Size
	}
	blocks = size / c.Block / uint64(c.Queues)
	switch {
	case c.Reads < 100 && d.ReadOnly():
		return 0, vblk.ErrReadOnly
	case c.Block%uint64(disk.BlockSize) != 0:
		return 0, fmt.Errorf("blocks of %d bytes, the disk's have %d: use a multiple", c.Block, disk.BlockSize)
	case c.Block > uint64(l.Bytes) || c.Block > uint64(l.Size)*uint64(l.Segments):
		return 0, fmt.Errorf("blocks of %d bytes, one request has %d in %d pieces of %d at most: use less", c.Block, l.Bytes, l.Segments, l.Size)
	case blocks < uint64(c.Depth):
		return 0, fmt.Errorf("%d blocks for each queue, and %d requests in flight: use smaller blocks, or fewer queues or requests", blocks, c.Depth)
	case c.Verify && blocks*uint64(c.Queues) > mostKnown:
		return 0, fmt.Errorf("%d blocks to verify: use larger blocks, or --region for at most %d of them", blocks*uint64(c.Queues), mostKnown)
	}
	return blocks, nil
}
