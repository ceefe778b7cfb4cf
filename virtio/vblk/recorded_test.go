package vblk_test

import (
	stdcontext "context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// The back-end of the test below is this binary again, with these in its
// environment.
const (
	victimSocket = "VBLK_TEST_VICTIM_SOCKET"
	victimDisk   = "VBLK_TEST_VICTIM_DISK"
)

const (
	lanes     = 8  // writers, each with sectors of its own
	laneSize  = 16 // sectors
	diskBytes = lanes * laneSize * vblk.SectorSize
)

// TestMain is all tests, or a back-end that one of them kills.
func TestMain(m *testing.M) {
	if os.Getenv(victimSocket) == "" {
		os.Exit(m.Run())
	}
	fmt.Fprintln(os.Stderr, victim(os.Getenv(victimSocket), os.Getenv(victimDisk)))
	os.Exit(1)
}

// victim serves a disk in a file, each burst from its end, until it is killed or
// has no parent.
func victim(socket, disk string) error {
	file, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	p := newPlatter(diskBytes / vblk.SectorSize)
	p.record, p.reversed = true, true
	p.answer = func(_ vblk.Header, s vblk.Status) (vblk.Status, int, bool) {
		time.Sleep(100 * time.Microsecond) // as a disk takes: it dies with requests in flight
		return s, 0, false
	}
	if p.data, err = unix.Mmap(int(file.Fd()), 0, diskBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return err
	}
	l, err := vhost.Listen(socket, vhost.ListenOptions{UID: -1, GID: -1})
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	go func() {
		for range p.opened { // nobody else listens
		}
	}()
	return (&vhost.Server{Device: p}).Serve(stdcontext.Background(), l)
}

// raise starts a back-end.
func raise(t *testing.T, socket, disk string) (kill func()) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	c := exec.Command(self)
	c.Env = append(os.Environ(), victimSocket+"="+socket, victimDisk+"="+disk)
	c.Stderr = t.Output()
	life, err := c.StdinPipe()
	must(t, err)
	must(t, c.Start())
	return sync.OnceFunc(func() {
		_ = c.Process.Kill() // SIGKILL
		_ = c.Wait()
		_ = life.Close()
	})
}

// lane writes its sectors over and over, each time with a higher number, and
// reads them back. A write that was lost, or done again after one that followed
// it, leaves a lower one.
func lane(r *rig, n int, stop <-chan struct{}) ([laneSize]uint64, error) {
	var last [laneSize]uint64
	b := make([]byte, vblk.SectorSize)
	for round := uint64(1); ; round++ {
		select {
		case <-stop:
			return last, nil
		default:
		}
		k := int(round*5) % laneSize
		at := int64(n*laneSize+k) * vblk.SectorSize
		binary.LittleEndian.PutUint64(b, round)
		if _, err := r.WriteAt(b, at); err != nil {
			return last, fmt.Errorf("write: %w", err)
		}
		last[k] = round
		k = int(round*3) % laneSize
		if _, err := r.ReadAt(b, int64(n*laneSize+k)*vblk.SectorSize); err != nil {
			return last, fmt.Errorf("read: %w", err)
		}
		if got := binary.LittleEndian.Uint64(b); got != last[k] {
			return last, fmt.Errorf("sector %d of lane %d holds number %d, and %d was written last", k, n, got, last[k])
		}
	}
}

// TestABackEndThatIsKilledLosesAndRepeatsNothing: without IN_ORDER, with requests
// that complete in another order than they came in, nothing is sent again by the
// driver, everything is done, and nothing of before overwrites what came after.
func TestABackEndThatIsKilledLosesAndRepeatsNothing(t *testing.T) {
	kills := 12
	if testing.Short() {
		kills = 3
	}
	socket, disk := t.TempDir()+"/blk.sock", t.TempDir()+"/disk"
	must(t, os.WriteFile(disk, make([]byte, diskBytes), 0o600))
	kill := raise(t, socket, disk)
	defer func() { kill() }()
	eventually(t, "the back-end listens", func() bool {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	r := open(t, socket, func(o *vblk.Options) { o.Queues = 2 })
	stop := make(chan struct{})
	var all sync.WaitGroup
	var last [lanes][laneSize]uint64
	for n := range lanes {
		all.Go(func() {
			var err error
			if last[n], err = lane(r, n, stop); err != nil {
				t.Error(err)
			}
		})
	}
	for range kills {
		before := r.Stats().Queues[0].Completed
		eventually(t, "traffic", func() bool { return r.Stats().Queues[0].Completed > before+40 || t.Failed() })
		kill()
		kill = raise(t, socket, disk)
	}
	before := r.Stats().Queues[0].Completed
	eventually(t, "traffic", func() bool { return r.Stats().Queues[0].Completed > before+40 || t.Failed() })
	close(stop)
	all.Wait()
	image, err := os.ReadFile(disk)
	must(t, err)
	for n, sectors := range last {
		for k, want := range sectors {
			if got := binary.LittleEndian.Uint64(image[(n*laneSize+k)*vblk.SectorSize:]); got != want {
				t.Errorf("sector %d of lane %d holds number %d, and %d was written last", k, n, got, want)
			}
		}
	}
	if s := r.Stats(); s.Losses != uint64(kills) {
		t.Errorf("%d losses, of %d back-ends that were killed", s.Losses, kills)
	}
	for i, q := range r.Stats().Queues {
		if q.Submitted != q.Completed || q.Failed != 0 || q.Resent != 0 || q.Err != nil {
			t.Errorf("queue %d: %+v", i, q)
		}
	}
}
