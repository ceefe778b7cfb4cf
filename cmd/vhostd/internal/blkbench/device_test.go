package blkbench

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/backend"
	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vblk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// device is a disk in memory with faults.
type device struct {
	queues   int
	features virtio.Features
	ignore   atomic.Bool // writes are not done
	fail     atomic.Bool // requests end with IOERR
	hold     atomic.Bool // requests are not taken

	raw [2][vblk.HeaderLen]byte // of each queue

	mu     sync.Mutex
	data   []byte
	writes int
	syncs  int
}

const diskSize = 4 << 20

func newDevice() *device {
	return &device{queues: 2, features: vblk.FeatureMQ | vblk.FeatureFlush | vblk.FeatureSegMax, data: make([]byte, diskSize)}
}

func (d *device) Spec() vhost.Spec {
	return vhost.Spec{ID: virtio.Block, Features: d.features, Queues: d.queues}
}
func (d *device) Open(*vhost.Session) (vhost.Handler, error) { return d, nil }
func (d *device) Close() error                               { return nil }
func (d *device) WriteConfig([]byte, int64) (int, error)     { return 0, errors.New("read-only") }
func (d *device) ReadConfig(p []byte, off int64) (int, error) {
	b, err := vblk.Config{Capacity: diskSize / vblk.SectorSize, SegMax: 8, Queues: uint16(d.queues)}.AppendBinary(nil)
	return copy(p, b[min(int(off), len(b)):]), err
}

// Serve does requests whose status is the last byte of the last piece.
func (d *device) Serve(q *virtio.Queue) error {
	if d.hold.Load() {
		return nil
	}
	for c := range q.Chains() {
		raw := &d.raw[q.Index()]
		_, err := io.ReadFull(c, raw[:])
		status := vblk.StatusOK
		if err != nil || d.fail.Load() {
			status = vblk.StatusIOErr
		}
		if h := vblk.DecodeHeader(raw); status == vblk.StatusOK {
			status = d.do(c, h)
		}
		pieces := c.Writable()
		n := 0
		for _, p := range pieces {
			n += len(p)
		}
		last := pieces[len(pieces)-1]
		last[len(last)-1] = byte(status)
		c.Done(n)
	}
	return nil
}

// do does a request.
func (d *device) do(c *virtio.Chain, h vblk.Header) vblk.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.data[min(h.Sector*vblk.SectorSize, diskSize):]
	switch h.Type {
	case vblk.TypeIn:
		for _, p := range c.Writable() {
			at = at[copy(p, at):]
		}
	case vblk.TypeOut:
		d.writes++
		if d.ignore.Load() {
			at = make([]byte, diskSize)
		}
		for n := 1; n > 0; at = at[n:] {
			n, _ = c.Read(at)
		}
	case vblk.TypeFlush:
		d.syncs++
	default:
		return vblk.StatusUnsupp
	}
	return vblk.StatusOK
}

// serve starts the device's server, and gives what a run against it is like.
func (d *device) serve(t *testing.T) Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := vhost.Listen(path, vhost.ListenOptions{UID: -1, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = (&vhost.Server{Device: d}).Serve(ctx, l) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return Config{
		Address: backend.Address{Socket: path, Wait: patience}, Block: 4096, Depth: 16, Queues: 2, Ring: 128, Reads: 100,
		Late: patience, Memory: memfd.Options{NoHuge: true},
	}
}
