package vblk_test

import (
	stdcontext "context"
	"os"
	"path/filepath"
	"testing"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vblk"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// image makes a file of noise, so many sectors.
func image(tb testing.TB, sectors int) (path string, content []byte) {
	tb.Helper()
	path, content = filepath.Join(tb.TempDir(), "disk.raw"), noise(sectors*vblk.SectorSize, 9)
	must(tb, os.WriteFile(path, content, 0o600))
	return path, content
}

// openImage opens a file until the test ends.
func openImage(tb testing.TB, path string, o vblk.FileOptions) *vblk.File {
	tb.Helper()
	f, err := vblk.OpenFile(path, o)
	must(tb, err)
	tb.Cleanup(func() { must(tb, f.Close()) })
	return f
}

func newDevice(tb testing.TB, o vblk.DeviceOptions) *vblk.Device {
	tb.Helper()
	d, err := vblk.NewDevice(o)
	must(tb, err)
	return d
}

// target is a device behind one ring of a test's own making.
type target struct {
	*virtiotest.Rig
	tb     testing.TB
	attach *vblk.Attachment
}

const ringFeatures = virtio.FeatureIndirect | virtio.FeatureVersion1

func newTarget(tb testing.TB, d *vblk.Device) *target {
	rig := virtiotest.New(tb, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: 64, Features: ringFeatures}})
	a := d.Attach()
	a.Negotiated(ringFeatures | d.Features())
	return &target{rig, tb, a}
}

// serve lets the worker have its turn.
func (t *target) serve() {
	t.Stay(func(q *virtio.Queue) {
		if err := t.attach.Serve(q); err != nil {
			t.tb.Fatal(err)
		}
	})
}

// ask makes a request and gives what came back: as many bytes as the used length
// says.
func (t *target) ask(q virtiotest.Request) []byte {
	t.tb.Helper()
	t.Make(q)
	t.Publish()
	t.serve()
	u, ok, err := t.Reap()
	if err != nil || !ok {
		t.tb.Fatalf("the request did not come back: %v, %v", ok, err)
	}
	return u.Data()
}

// header is a request's first bytes.
func header(typ vblk.Type, sector uint64) []byte {
	var b [vblk.HeaderLen]byte
	vblk.Header{Type: typ, Sector: sector}.Encode(&b)
	return b[:]
}

// ranges are the data of a discard.
func ranges(list ...vblk.Segment) (p []byte) {
	for _, s := range list {
		var b [vblk.SegmentLen]byte
		s.Encode(&b)
		p = append(p, b[:]...)
	}
	return p
}

// server is a device the way vhost.Server wants one.
type server struct {
	*vblk.Device
	opened chan *vhost.Session
}

func (s server) Spec() vhost.Spec {
	return vhost.Spec{ID: virtio.Block, Features: s.Features(), Queues: s.Queues(), Inflight: true}
}

func (s server) Open(session *vhost.Session) (vhost.Handler, error) {
	s.opened <- session
	return s.Attach(), nil
}

// listen serves d on a socket until the test ends.
func listen(tb testing.TB, d *vblk.Device) (path string, opened <-chan *vhost.Session) {
	tb.Helper()
	path = tb.TempDir() + "/blk.sock"
	l, err := vhost.Listen(path, vhost.ListenOptions{UID: -1, GID: -1})
	must(tb, err)
	s := server{d, make(chan *vhost.Session, 16)}
	ctx, cancel := stdcontext.WithCancel(stdcontext.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = (&vhost.Server{Device: s}).Serve(ctx, l)
	}()
	tb.Cleanup(func() { cancel(); <-done })
	return path, s.opened
}
