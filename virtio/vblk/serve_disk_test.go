package vblk_test

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vhostd/vhostd/virtio/vblk"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// What our driver writes over a socket stands in the file, and is read again,
// whatever the number of rings and of requests at a time.
func TestADriverAndTheFileAgree(t *testing.T) {
	for name, o := range map[string]struct {
		queues, parallel int
		direct           bool
	}{"plain": {1, 1, false}, "four queues": {4, 1, false}, "parallel": {2, 32, false}, "direct": {2, 16, true}} {
		t.Run(name, func(t *testing.T) {
			path, want := image(t, 8192)
			f := openImage(t, path, vblk.FileOptions{Direct: o.direct})
			d := newDevice(t, vblk.DeviceOptions{
				Storage: f, Queues: o.queues, Parallel: o.parallel, Serial: "serial of the test", Discard: f.Info().Discard,
			})
			socket, _ := listen(t, d)
			r := open(t, socket, func(o2 *vblk.Options) { o2.Queues = o.queues })
			if id, err := r.ID(t.Context()); err != nil || id != "serial of the test" {
				t.Errorf("id %q, %v", id, err)
			}
			var all sync.WaitGroup
			const part = 1 << 20
			for i := range 4 {
				all.Go(func() {
					p := noise(part-512, byte(i))
					copy(want[i*part:], p)
					if _, err := r.WriteAt(p, int64(i*part)); err != nil {
						t.Errorf("write: %v", err)
					}
				})
			}
			all.Wait()
			must(t, r.WriteZeroes(t.Context(), []vblk.Range{{Sector: 1, Sectors: 7}, {Sector: 100, Sectors: 1}}, true))
			clear(want[512:4096])
			clear(want[51200 : 51200+512])
			must(t, r.Flush(t.Context()))
			r.readBack(t, 0, want)
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(want, after) {
				t.Errorf("the file holds something else than was written: %v", err)
			}
			if s := d.Stats(); s.Flushes != 1 || s.IDs != 1 || s.WriteBytes != 4*(part-512) || s.Failed+s.Refused+s.Unknown != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A disk that grows or shrinks is announced, and the driver reads what is new.
func TestResizeReachesTheDriver(t *testing.T) {
	path, _ := image(t, 64)
	d := newDevice(t, vblk.DeviceOptions{Storage: openImage(t, path, vblk.FileOptions{})})
	socket, opened := listen(t, d)
	r := open(t, socket, nil)
	session := <-opened
	for _, sectors := range []uint64{128, 16} {
		must(t, os.Truncate(path, int64(sectors)*512))
		changed, err := d.Refresh()
		if !changed || err != nil {
			t.Fatalf("changed %v, %v", changed, err)
		}
		must(t, session.NotifyConfig())
		eventually(t, "the driver knows", func() bool { return r.Config().Capacity == sectors })
		last := int64(sectors-1) * 512
		if _, err := r.WriteAt(noise(512, 1), last); err != nil {
			t.Errorf("the last sector of %d: %v", sectors, err)
		}
	}
	if changed, err := d.Refresh(); changed || err != nil {
		t.Errorf("nothing changed, and %v, %v", changed, err)
	}
}

// A read-only disk says so, and holds to it.
func TestReadOnlyIsTold(t *testing.T) {
	path, want := image(t, 64)
	d := newDevice(t, vblk.DeviceOptions{Storage: openImage(t, path, vblk.FileOptions{ReadOnly: true}), ReadOnly: true})
	socket, _ := listen(t, d)
	r := open(t, socket, nil)
	if _, err := r.WriteAt(make([]byte, 512), 0); !errors.Is(err, vblk.ErrReadOnly) || !r.ReadOnly() {
		t.Errorf("%v", err)
	}
	r.readBack(t, 0, want)
}

// durability remembers whether the last write had to be durable.
type durability struct {
	*vblk.File
	durable atomic.Bool
}

func (d *durability) WriteVec(p [][]byte, off int64, durable bool) error {
	d.durable.Store(durable)
	return d.File.WriteVec(p, off, durable)
}

// A driver that cannot flush, or chose writethrough, has each write on the disk
// when it is told; the next connection begins with writeback.
func TestWritethroughIsDurable(t *testing.T) {
	path, _ := image(t, 64)
	storage := &durability{File: openImage(t, path, vblk.FileOptions{})}
	socket, _ := listen(t, newDevice(t, vblk.DeviceOptions{Storage: storage}))
	write := func(r *rig, want bool) {
		t.Helper()
		storage.durable.Store(!want)
		_, err := r.WriteAt(make([]byte, 512), 0)
		must(t, err)
		if storage.durable.Load() != want {
			t.Errorf("durable is %v, want %v", !want, want)
		}
	}
	r := open(t, socket, nil)
	write(r, false)
	for _, on := range []bool{false, true, false} {
		must(t, r.SetWriteback(t.Context(), on))
		write(r, !on)
	}
	must(t, r.Close())
	r = open(t, socket, nil)
	write(r, false)
	must(t, r.Close())
	r = open(t, socket, func(o *vblk.Options) { o.Features = ^(vblk.FeatureFlush | vblk.FeatureConfigWCE) })
	write(r, true)
}

// Only writeback can be written, and a write that says what is there already is
// none: that is what a migration writes.
func TestOnlyWritebackCanBeWritten(t *testing.T) {
	d := newDevice(t, vblk.DeviceOptions{Storage: faulty{}})
	d.Attach()
	all := make([]byte, vblk.ConfigLen)
	_, err := d.ReadConfig(all, 0)
	must(t, err)
	all[32] = 0
	if _, err := d.WriteConfig(all, 0); err != nil {
		t.Errorf("the whole space as it is, but writeback: %v", err)
	}
	if _, err := d.ReadConfig(all, 0); err != nil || all[32] != 0 {
		t.Errorf("writeback is %d, %v", all[32], err)
	}
	for _, c := range []struct {
		off int64
		p   []byte
	}{{0, []byte{1}}, {32, []byte{2}}, {31, []byte{1, 0}}, {32, []byte{1, 9}}, {100, []byte{0}}, {-1, []byte{0}}} {
		if _, err := d.WriteConfig(c.p, c.off); err == nil {
			t.Errorf("%v at %d was taken", c.p, c.off)
		}
	}
}

// gate is a storage whose reads wait.
type gate struct {
	faulty
	began chan struct{}
	open  chan struct{}
}

func (g gate) ReadVec([][]byte, int64) error {
	g.began <- struct{}{}
	<-g.open
	return nil
}

// Requests of one ring that came together are in the storage together, as many
// as Parallel says.
func TestParallelRequestsAreInTheStorageTogether(t *testing.T) {
	g := gate{began: make(chan struct{}), open: make(chan struct{})}
	w := newTarget(t, newDevice(t, vblk.DeviceOptions{Storage: g, Parallel: 8}))
	for i := range uint64(4) {
		w.Make(virtiotest.Request{Out: [][]byte{header(vblk.TypeIn, i)}, In: []int{512, 1}})
	}
	w.Publish()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.serve()
	}()
	for i := range 4 {
		select {
		case <-g.began:
		case <-time.After(patience):
			t.Fatalf("request %d waits for another", i)
		}
	}
	close(g.open)
	<-done
	if n := w.Waiting(); n != 4 {
		t.Errorf("%d of 4 came back", n)
	}
}
