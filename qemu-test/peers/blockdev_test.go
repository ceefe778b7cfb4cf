package peers

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// storage is a running qemu-storage-daemon that exports a raw image.
type storage struct {
	t             testing.TB
	cmd           *exec.Cmd
	in            io.WriteCloser
	out           *bufio.Scanner
	image, socket string
}

// startStorage starts it on an image; options are the export's. It ends with the
// test.
func startStorage(t testing.TB, image, options string) *storage {
	t.Helper()
	path, err := exec.LookPath("qemu-storage-daemon")
	if err != nil {
		t.Skip("qemu-storage-daemon is not installed: make deps")
	}
	s := &storage{t: t, image: image, socket: filepath.Join(filepath.Dir(image), "blk.sock")}
	s.cmd = exec.Command(path,
		"--blockdev", "driver=file,node-name=f,discard=unmap,filename="+image,
		"--export", "type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path="+s.socket+","+options,
		"--chardev", "stdio,id=m", "--monitor", "chardev=m")
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Stderr = os.Stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewScanner(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	s.qmp(`{"execute":"qmp_capabilities"}`)
	return s
}

// qmp has the monitor do something and waits until it is done.
func (s *storage) qmp(command string) {
	s.t.Helper()
	if _, err := io.WriteString(s.in, command+"\n"); err != nil {
		s.t.Fatal(err)
	}
	for s.out.Scan() {
		var answer struct{ Return, Error json.RawMessage }
		if err := json.Unmarshal(s.out.Bytes(), &answer); err != nil || answer.Error != nil {
			s.t.Fatalf("%s: %s", command, s.out.Bytes())
		}
		if answer.Return != nil {
			return
		}
	}
	s.t.Fatalf("qemu-storage-daemon ended at %s", command)
}

// kill ends it at once.
func (s *storage) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// newImage makes a raw image of n bytes that repeat nowhere.
func newImage(t testing.TB, n int) (path string, data []byte) {
	t.Helper()
	data = make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(data)
	path = filepath.Join(shortDir(t), "disk.raw")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, data
}

// openDisk drives the export. When the test ends all memory must be back.
func openDisk(t testing.TB, s *storage, o vblk.Options) *vblk.Disk {
	t.Helper()
	arena, err := memfd.New(memfd.Options{NoHuge: true, Space: 256 << 20})
	fatal(t, err)
	heap, err := arena.Heap("disk", memfd.HeapOptions{Shared: true, Node: memfd.AnyNode})
	fatal(t, err)
	front, err := vhost.Dial(t.Context(), s.socket, vhost.FrontendConfig{Device: virtio.Block, Memory: arena, Timeout: patience})
	fatal(t, err)
	o.Transport, o.Heap, o.Memory, o.Timeout = front, heap, arena, patience
	d, err := vblk.Open(t.Context(), o)
	fatal(t, err)
	front.SetPauser(d)
	t.Cleanup(func() {
		fatal(t, d.Close())
		fatal(t, heap.Close())
		fatal(t, arena.Close())
	})
	return d
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// same compares the image with what it should hold.
func (s *storage) same(want []byte) {
	s.t.Helper()
	got, err := os.ReadFile(s.image)
	fatal(s.t, err)
	if len(got) != len(want) {
		s.t.Fatalf("the image has %d bytes, want %d", len(got), len(want))
	}
	for at := 0; at < len(got); at += 512 {
		if !bytes.Equal(got[at:at+512], want[at:at+512]) {
			s.t.Fatalf("the image differs at sector %d", at/512)
		}
	}
}

// Every request of the driver does to QEMU's disk what it is for: the image is
// looked at afterwards.
func TestTheBlockDriverDrivesQEMUsDisk(t *testing.T) {
	for _, queues := range []int{1, 4} {
		t.Run(fmt.Sprint(queues, " queues"), func(t *testing.T) {
			image, want := newImage(t, 16<<20)
			s := startStorage(t, image, fmt.Sprintf("writable=on,num-queues=%d", queues))
			d := openDisk(t, s, vblk.Options{Queues: queues})
			t.Logf("features %v, %+v", d.Features().Names(virtio.Block), d.Config())

			got := make([]byte, len(want))
			_, err := d.ReadAt(got, 0)
			fatal(t, err)
			if !bytes.Equal(got, want) {
				t.Fatal("the disk reads otherwise than its image")
			}
			for i := range 40 { // one after another, over all queues
				at, n := i*300*512, (1+i*7)*512
				_, _ = rand.NewChaCha8([32]byte{1, byte(i)}).Read(want[at : at+n])
				_, err := d.WriteAt(want[at:at+n], int64(at))
				fatal(t, err)
			}
			fatal(t, d.Flush(t.Context()))
			s.same(want)

			fatal(t, d.WriteZeroes(t.Context(), []vblk.Range{{Sector: 8, Sectors: 999}, {Sector: 20000, Sectors: 5000}}, true))
			clear(want[8*512 : 1007*512])
			clear(want[20000*512 : 25000*512])
			s.same(want)
			fatal(t, d.Discard(t.Context(), []vblk.Range{{Sector: 2048, Sectors: 2048}}))
			_, err = d.ReadAt(want[2048*512:4096*512], 2048*512) // whatever it is now
			fatal(t, err)
			s.same(want)

			id, err := d.ID(t.Context())
			fatal(t, err)
			if id != "vhost_user_blk" {
				t.Errorf("the disk is called %q", id)
			}
			for i, q := range d.Stats().Queues {
				if q.Submitted == 0 || q.Failed != 0 || q.Lent != 0 {
					t.Errorf("queue %d: %+v", i, q)
				}
			}
		})
	}
}

// A disk that grows while it is driven is told of, and its new end written to.
func TestTheBlockDriverHearsThatQEMUsDiskGrew(t *testing.T) {
	image, _ := newImage(t, 1<<20)
	s := startStorage(t, image, "writable=on,num-queues=1")
	grown := make(chan uint64, 8)
	d := openDisk(t, s, vblk.Options{OnChange: func(c vblk.Config) { grown <- c.Capacity }})
	s.qmp(`{"execute":"block_resize","arguments":{"node-name":"f","size":2097152}}`)
	fatal(t, d.SetWriteback(t.Context(), true)) // reads the configuration space again
	if d.Config().Capacity == 2048 {
		t.Skip("this qemu-storage-daemon does block_resize, and its export's configuration space stays as it was (7.2 does)")
	}
	for capacity := uint64(0); capacity != 4096; {
		select {
		case capacity = <-grown:
		case <-time.After(patience):
			t.Fatal("nobody told that the disk grew")
		}
	}
	_, err := d.WriteAt(make([]byte, 512), 2097152-512)
	fatal(t, err)
}

// A read-only export reads, and no write leaves the driver.
func TestTheBlockDriverHonoursQEMUsReadOnlyDisk(t *testing.T) {
	image, want := newImage(t, 1<<20)
	s := startStorage(t, image, "writable=off,num-queues=1")
	d := openDisk(t, s, vblk.Options{})
	if _, err := d.WriteAt(make([]byte, 512), 0); err == nil || !d.ReadOnly() {
		t.Errorf("a write to a read-only disk: %v", err)
	}
	got := make([]byte, len(want))
	_, err := d.ReadAt(got, 0)
	fatal(t, err)
	if !bytes.Equal(got, want) {
		t.Error("the disk reads otherwise than its image")
	}
	s.same(want)
}

// QEMU's daemon is killed in the middle of writes and another takes its place:
// every write that returned is in the image.
func TestTheBlockDriverOutlivesQEMUsDaemon(t *testing.T) {
	image, want := newImage(t, 4<<20)
	s := startStorage(t, image, "writable=on,num-queues=1")
	d := openDisk(t, s, vblk.Options{})
	done := make(chan error, 1)
	written := make(chan int) // unbuffered: what is counted was written since the last kill
	go func() {
		defer close(done)
		defer close(written)
		for i := range 400 {
			at := i * 20 * 512
			_, _ = rand.NewChaCha8([32]byte{2, byte(i), byte(i >> 8)}).Read(want[at : at+16*512])
			if _, err := d.WriteAt(want[at:at+16*512], int64(at)); err != nil {
				done <- err
				return
			}
			written <- i
		}
	}()
	for i := range 3 {
		for range 50 {
			select {
			case _, going := <-written:
				if !going {
					t.Fatal("the writer ended: ", <-done)
				}
			case <-time.After(patience):
				t.Fatalf("no write returns after %d daemons, %+v", i, d.Stats())
			}
		}
		s.kill()
		s = startStorage(t, image, "writable=on,num-queues=1")
	}
	for range written { // the rest
	}
	fatal(t, <-done)
	s.same(want)
	if stats := d.Stats(); stats.Losses != 3 || stats.Queues[0].Failed != 0 {
		t.Errorf("%+v", stats)
	} else {
		t.Logf("%+v", stats)
	}
}
