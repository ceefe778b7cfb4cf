package qemutest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

// TestAGuestHasADisk has a guest write to a disk of ours, with the firmware
// having looked at it before, and compares what it reads with the file. Then
// the file grows, and the guest hears of it.
func TestAGuestHasADisk(t *testing.T) {
	l, ctx := newLab(t)
	q := newest(ctx, t)
	const size = 16 << 20
	path := filepath.Join(l.Dir, "disk.raw")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	d, err := l.Vhostd(ctx, "daemon", Port{Name: "disk", Disk: true, Options: "file=" + path + ",queues=2,serial=of-the-test"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := l.Boot(ctx, Guest{Name: "guest", QEMU: q, CPUs: 2, Devices: []Device{
		{Driver: "vhost-user-blk-pci", Socket: l.Socket("disk"), Props: "num-queues=2"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if serial := sysfs(ctx, t, m, "/sys/block/vda/serial"); serial != "of-the-test" {
		t.Errorf("the guest reads the serial %q", serial)
	}
	all := guestapi.DiskRange{Name: "vda", Bytes: size}
	for seed, r := range []guestapi.DiskRange{
		{Name: "vda", Bytes: 12 << 20}, {Name: "vda", Offset: 4096, Bytes: 4096}, {Name: "vda", Offset: 10 << 20, Bytes: 6 << 20},
	} {
		if _, err := Ask[struct{}](ctx, m, guestapi.OpDiskWrite, guestapi.DiskWrite{DiskRange: r, Seed: uint64(seed)}); err != nil {
			t.Fatal(err)
		}
		sameSum(ctx, t, m, path, all)
	}
	zero := guestapi.DiskRange{Name: "vda", Offset: 1 << 20, Bytes: 8 << 20}
	if _, err := Ask[struct{}](ctx, m, guestapi.OpDiskZero, zero); err != nil {
		t.Fatal(err)
	}
	sameSum(ctx, t, m, path, all)
	if p, err := os.ReadFile(path); err != nil || len(bytes.Trim(p[1<<20:9<<20], "\x00")) > 0 || p[9<<20] == 0 && p[9<<20+1] == 0 {
		t.Errorf("the file's zeroes are elsewhere: %v", err)
	}

	if err := os.Truncate(path, 2*size); err != nil {
		t.Fatal(err)
	}
	if err := d.Resize(ctx, "disk"); err != nil {
		t.Fatal(err)
	}
	for sysfs(ctx, t, m, "/sys/block/vda/size") != "65536" {
		select {
		case <-ctx.Done():
			t.Fatal("the guest does not hear that its disk has grown")
		case <-time.After(10 * time.Millisecond):
		}
	}
	tail := guestapi.DiskRange{Name: "vda", Offset: 2*size - 4096, Bytes: 4096}
	if _, err := Ask[struct{}](ctx, m, guestapi.OpDiskWrite, guestapi.DiskWrite{DiskRange: tail, Seed: 9}); err != nil {
		t.Fatal(err)
	}
	sameSum(ctx, t, m, path, tail)
	text, err := d.ShowText(ctx, "disks")
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + text)
}

// sysfs reads a line of the guest's.
func sysfs(ctx context.Context, t *testing.T, m *Machine, path string) string {
	t.Helper()
	b, err := Ask[guestapi.Bytes](ctx, m, guestapi.OpRead, guestapi.File{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b.Data))
}

// sameSum compares what the guest reads with the file.
func sameSum(ctx context.Context, t *testing.T, m *Machine, path string, r guestapi.DiskRange) {
	t.Helper()
	got, err := Ask[guestapi.Bytes](ctx, m, guestapi.OpDiskSum, r)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := sha256.New()
	if _, err := io.Copy(want, io.NewSectionReader(f, r.Offset, r.Bytes)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Data, want.Sum(nil)) {
		t.Fatalf("the guest reads something else than the file holds, %d bytes at %d", r.Bytes, r.Offset)
	}
}
