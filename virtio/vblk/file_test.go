package vblk_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/virtio/vblk"
)

// Pieces that are not aligned go to a file that was opened with O_DIRECT too,
// and what went past the page cache and what went through it is one.
func TestDirectAndCachedAreOne(t *testing.T) {
	path, before := image(t, 4096)
	f := openImage(t, path, vblk.FileOptions{Direct: true})
	if !f.Info().Direct {
		t.Skip("the filesystem of the temporary folder has no O_DIRECT")
	}
	aligned, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(t, err)
	defer func() { must(t, unix.Munmap(aligned)) }()
	for i, p := range [][]byte{aligned[:8192], aligned[1 : 1+8192], aligned[512 : 512+512], aligned[:3*512]} {
		off := int64(8192 + i*512)
		copy(p, noise(len(p), byte(i)))
		copy(before[off:], p)
		must(t, f.WriteVec([][]byte{p[:100], p[100:]}, off, i%2 == 0))
		clear(p)
		must(t, f.ReadVec([][]byte{p}, off))
		if !bytes.Equal(p, before[off:][:len(p)]) {
			t.Fatalf("piece %d is read otherwise than written", i)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file holds something else: %v", err)
	}
}

// More pieces than the kernel takes at once, empty ones among them.
func TestManyPiecesAreOneTransfer(t *testing.T) {
	path, want := image(t, 64)
	f := openImage(t, path, vblk.FileOptions{})
	got := make([]byte, len(want))
	var p [][]byte
	for i := 0; i < len(got); i += 8 {
		p = append(p, got[i:i+8], nil)
	}
	must(t, f.ReadVec(p, 0))
	if !bytes.Equal(got, want) {
		t.Error("the pieces were read in another order")
	}
	if err := f.ReadVec([][]byte{got}, 512); err != io.ErrUnexpectedEOF {
		t.Errorf("read past the end of the file: %v", err)
	}
}

// What no disk can be is refused with words that help, and does not block.
func TestWhatIsNoDiskIsRefused(t *testing.T) {
	dir := t.TempDir()
	fifo, small := filepath.Join(dir, "fifo"), filepath.Join(dir, "small")
	must(t, unix.Mkfifo(fifo, 0o600))
	must(t, os.WriteFile(small, []byte("x"), 0o600))
	for path, want := range map[string]string{
		dir: "neither", fifo: "neither", small: "truncate", filepath.Join(dir, "none"): "no such file",
	} {
		if _, err := vblk.OpenFile(path, vblk.FileOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", path, err, want)
		}
	}
}

// Two writers would spoil the disk for each other.
func TestADiskHasOneWriterOrReaders(t *testing.T) {
	path, _ := image(t, 64)
	w, err := vblk.OpenFile(path, vblk.FileOptions{})
	must(t, err)
	for _, ro := range []bool{false, true} {
		if _, err := vblk.OpenFile(path, vblk.FileOptions{ReadOnly: ro}); err == nil || !strings.Contains(err.Error(), "another process") {
			t.Errorf("beside a writer, read-only %v: %v", ro, err)
		}
	}
	must(t, w.Close())
	openImage(t, path, vblk.FileOptions{ReadOnly: true})
	openImage(t, path, vblk.FileOptions{ReadOnly: true})
}

// What was discarded or zeroed reads as zero, and nothing beside it changes.
// A block device has other ways to do it than a file.
func TestZeroingChangesWhatItShould(t *testing.T) {
	for name, make := range map[string]func(*testing.T, string) string{
		"file":         func(_ *testing.T, path string) string { return path },
		"block device": loop,
	} {
		t.Run(name, func(t *testing.T) {
			path, want := image(t, 4096)
			path = make(t, path)
			f := openImage(t, path, vblk.FileOptions{})
			if size, err := f.Size(); err != nil || size != int64(len(want)) || f.Info().Device != (name != "file") {
				t.Fatalf("%d bytes, %v, %+v", size, err, f.Info())
			}
			must(t, f.Zero(512, 1024, false))
			must(t, f.Zero(8192, 65536, true))
			clear(want[512:1536])
			clear(want[8192 : 8192+65536])
			if f.Info().Discard {
				must(t, f.Discard(1<<20, 65536))
				clear(want[1<<20 : 1<<20+65536]) // a hole of the file below
			}
			must(t, f.Sync())
			got := noise(len(want), 200)
			must(t, f.ReadVec([][]byte{got}, 0))
			if !bytes.Equal(got, want) {
				t.Error("the disk holds something else")
			}
		})
	}
}

// loop makes a block device of a file.
func loop(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "losetup", "--find", "--show", path).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device here: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		// The device is busy as long as udev looks at it.
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			out, err := exec.Command("losetup", "--detach", device).CombinedOutput()
			if err == nil {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%v: %s", err, out)
			}
		}
	})
	return device
}
