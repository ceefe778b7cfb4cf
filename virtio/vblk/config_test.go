package vblk_test

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// A device's configuration is read by a driver as it was meant.
func TestConfigReadsAsItWasWritten(t *testing.T) {
	want := vblk.Config{
		Capacity: 1 << 40, SizeMax: 65536, SegMax: 126, Cylinders: 1023, Heads: 16, TrackSects: 63, BlockSize: 4096,
		PhysicalExp: 3, AlignOffset: 1, MinIO: 8, OptIO: 2048, Writeback: true, Queues: 7,
		DiscardSectors: 9, DiscardSegs: 10, DiscardAlign: 11, ZeroesSectors: 12, ZeroesSegs: 13, ZeroesUnmap: true,
	}
	p, err := want.AppendBinary(nil)
	must(t, err)
	got, err := vblk.ParseConfig(p, ^virtio.Features(0))
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// QEMU asks for 57 bytes; what stands behind them is padding.
	if got, err = vblk.ParseConfig(p[:57], ^virtio.Features(0)); err != nil || got != want {
		t.Errorf("57 bytes: %+v, %v", got, err)
	}
}

// Fields that the features do not make exist are not believed, whatever stands
// there, and need not be there.
func TestConfigOfFewFeatures(t *testing.T) {
	p := make([]byte, vblk.ConfigLen)
	for i := 8; i < len(p); i++ {
		p[i] = 0xa5
	}
	want := vblk.Config{SegMax: 1, BlockSize: 512, Queues: 1}
	for _, n := range []int{8, vblk.ConfigLen} {
		if got, err := vblk.ParseConfig(p[:n], virtio.FeatureVersion1); err != nil || got != want {
			t.Errorf("%d bytes: %+v, %v", n, got, err)
		}
	}
}

func TestConfigThatNoDiskHasIsRefused(t *testing.T) {
	good := vblk.Config{Capacity: 8, SegMax: 2, BlockSize: 512, Queues: 1}
	for field, spoil := range map[string]func(*vblk.Config){
		"capacity":   func(c *vblk.Config) { c.Capacity = math.MaxInt64/512 + 1 },
		"blk_size":   func(c *vblk.Config) { c.BlockSize = 768 },
		"size_max":   func(c *vblk.Config) { c.SizeMax = 255 },
		"num_queues": func(c *vblk.Config) { c.Queues = 0 },
	} {
		c := good
		spoil(&c)
		p, _ := c.AppendBinary(nil)
		_, err := vblk.ParseConfig(p, ^virtio.Features(0))
		if e, ok := errors.AsType[*vblk.ConfigError](err); !ok || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := vblk.ParseConfig(make([]byte, 20), vblk.FeatureBlkSize); err == nil {
		t.Error("a space that ends before blk_size was read")
	}
}

// FuzzConfig: what is accepted is safe to compute with, and reads the same after
// it was written.
func FuzzConfig(f *testing.F) {
	p, _ := vblk.Config{Capacity: 8, SegMax: 2, BlockSize: 512, Queues: 1}.AppendBinary(nil)
	f.Add(p, ^uint64(0))
	f.Add(p[:8], uint64(0))
	f.Fuzz(func(t *testing.T, p []byte, features uint64) {
		c, err := vblk.ParseConfig(p, virtio.Features(features))
		if err != nil {
			return
		}
		if int64(c.Capacity*vblk.SectorSize) < 0 || c.Capacity*vblk.SectorSize/vblk.SectorSize != c.Capacity {
			t.Errorf("capacity %d overflows in bytes", c.Capacity)
		}
		if c.BlockSize%vblk.SectorSize != 0 || c.BlockSize == 0 || c.SegMax == 0 || c.Queues == 0 {
			t.Errorf("%+v was accepted", c)
		}
		b, _ := c.AppendBinary(nil)
		if again, err := vblk.ParseConfig(b, ^virtio.Features(0)); err != nil || again != c {
			t.Errorf("%+v was read again as %+v, %v", c, again, err)
		}
	})
}
