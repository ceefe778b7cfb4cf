package vblk

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Heap lends memory that the device can reach, at addresses that are multiples
// of align. memfd.Heap is one, if it is shared.
type Heap interface {
	Alloc(ctx context.Context, n, align uint64) (memtable.Buf, error)
	Free(memtable.Buf) error
}

// Options says how a disk is driven. Transport, Heap and Memory are needed.
type Options struct {
	Transport virtio.Transport    // the disk's from [Open] on, which closes it in the end
	Heap      Heap                // for rings, headers and bounce buffers
	Memory    virtio.DriverMemory // finds memory of Heap: the arena it is of

	Queues   int    // request queues; 0: 1; no more than the device has
	Direct   int    // of them, how many are the caller's alone (Disk.Queue)
	Size     uint16 // descriptors of a ring, a power of two; 0: 128
	Segments int    // buffers in a request at most; 0: 30

	// Features are what may be agreed on; 0: all that this driver uses.
	// IN_ORDER is used only if it is named: it makes a quick request wait for
	// a slow one.
	Features virtio.Features

	BounceSize  uint32        // bytes of a bounce buffer, a multiple of 4096; 0: 64 KiB
	BounceCount int           // 0: 16
	Timeout     time.Duration // of ReadAt and WriteAt, which have no context; 0: none

	Once     bool         // fail with ErrLost rather than send a request to a second device
	OnChange func(Config) // the configuration space is another (resize); must not block, nor call SetWriteback
}

const (
	needed   = virtio.FeatureVersion1
	wellused = needed | virtio.FeatureIndirect | virtio.FeatureEventIdx |
		FeatureSizeMax | FeatureSegMax | FeatureGeometry | FeatureRO | FeatureBlkSize | FeatureFlush |
		FeatureTopology | FeatureConfigWCE | FeatureMQ | FeatureDiscard | FeatureWriteZeroes
	usable = wellused | virtio.FeatureInOrder
)

// Disk is a block device as its driver has it. Its methods may be called from
// any goroutine.
type Disk struct {
	o        Options
	features virtio.Features
	config   atomic.Pointer[Config]
	shares   func(memtable.IOVA, uint64) bool // nil: the transport does not say

	queues []*Queue
	turn   atomic.Uint32 // whose turn it is among the disk's own queues
	bounce chan memtable.Buf
	lent   []memtable.Buf // all that Heap lent, to be freed

	// transport is held over calls of Options.Transport, of which there is one
	// at a time. It is taken before a queue's lock.
	transport sync.Mutex
	broken    chan struct{} // a queue wants to be taken back
	retry     chan struct{} // the device did not come up
	gone      bool          // there will be an event; of follow
	stop      context.CancelFunc
	ctx       context.Context // of the disk's goroutines
	control   sync.WaitGroup
	runners   sync.WaitGroup
	close     sync.Once
	closeErr  error

	losses, resets, badConfigs atomic.Uint64
	down                       atomic.Pointer[error] // why there is no device
}

// Features are what was agreed on with the device.
func (d *Disk) Features() virtio.Features { return d.features }

// Config gives the configuration space as it was when it last changed.
func (d *Disk) Config() Config { return *d.config.Load() }

// ReadOnly says whether the disk refuses writes.
func (d *Disk) ReadOnly() bool { return d.features.Has(FeatureRO) }

// Queue gives direct queue i, from 0 to Options.Direct-1.
func (d *Disk) Queue(i int) *Queue { return d.queues[d.own()+i] }

// own is how many queues are the disk's own; they are the first.
func (d *Disk) own() int { return len(d.queues) - d.o.Direct }

// pick gives the own queue whose turn it is, of those that serve.
func (d *Disk) pick() (*Queue, error) {
	n := uint32(d.own())
	if n == 0 {
		return nil, ErrNoQueue
	}
	first, err := d.turn.Add(1), error(nil)
	for i := range n {
		q := d.queues[(first+i)%n]
		if err = q.Err(); err == nil {
			return q, nil
		}
	}
	return nil, err
}

// deadline is the context of calls that have none.
func (d *Disk) deadline() (context.Context, context.CancelFunc) {
	if d.o.Timeout <= 0 {
		return context.Background(), func() {}
	}
	return context.WithTimeout(context.Background(), d.o.Timeout)
}
