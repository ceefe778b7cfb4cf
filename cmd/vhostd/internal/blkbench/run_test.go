package blkbench

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vhostd/vhostd/virtio/vblk"
)

// ran runs c, which must succeed.
func ran(t *testing.T, c Config) *Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := Run(ctx, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		adapt func(*Config)
	}{
		{"anywhere", func(*Config) {}},
		{"one after the other", func(c *Config) { c.Sequential = true }},
		{"sectors", func(c *Config) { c.Block = 512 }},
		{"long blocks", func(c *Config) { c.Block, c.Depth = 128<<10, 4 }},
		{"one at a time", func(c *Config) { c.Depth, c.Queues, c.Count = 1, 1, 500 }},
		{"polling", func(c *Config) { c.Poll = true }},
		{"only writes, part of the disk", func(c *Config) { c.Reads, c.Size = 0, 1<<20 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDevice()
			run := d.serve(t)
			run.Write, run.Verify, run.Reads, run.Count, run.Flush = true, true, 40, 4000, 100
			c.adapt(&run)
			r := ran(t, run)
			if r.Bad() || r.Read.Requests+r.Written.Requests+r.Flushes != run.Count || r.Verified.Blocks == 0 {
				t.Errorf("%+v, verified %+v", r, r.Verified)
			}
			if int(r.Written.Requests) != d.writes || int(r.Flushes) != d.syncs || r.Flushes == 0 {
				t.Errorf("%d written, the device knows of %d; %d flushes, %d", r.Written.Requests, d.writes, r.Flushes, d.syncs)
			}
			for _, a := range []Amount{r.Read, r.Written} {
				if a.Requests > 0 && (a.Latency == nil || a.Latency.Count != a.Requests) {
					t.Errorf("%d requests, latency %+v", a.Requests, a.Latency)
				}
			}
			if run.Size != 0 && strings.Trim(string(d.data[run.Size:]), "\x00") != "" {
				t.Error("it wrote outside its part of the disk")
			}
			var b strings.Builder
			if err := r.Print(&b); err != nil || !strings.Contains(b.String(), "0 wrong") {
				t.Errorf("%v, printed:\n%s", err, &b)
			}
		})
	}
}

// A disk that says that it wrote, and did not, is found out.
func TestADiskThatForgetsIsFoundOut(t *testing.T) {
	d := newDevice()
	d.ignore.Store(true)
	c := d.serve(t)
	c.Write, c.Verify, c.Reads, c.Count, c.Sequential = true, true, 0, 64, true
	r := ran(t, c)
	if v := r.Verified; !r.Bad() || v.Wrong != 64 || v.Blocks != 64 || v.First == nil {
		t.Errorf("verified %+v", v)
	}
}

// A block that is in its place, but one write too old, or in another's place, is
// no block as it was written.
func TestAPatternIsOfOneBlockOneRunAndOneWrite(t *testing.T) {
	b := make([]byte, 4096)
	fill(b, 1, 2, 3)
	if !holds(b, 1, 2, 3) {
		t.Error("a pattern is not itself")
	}
	if holds(b, 9, 2, 3) || holds(b, 1, 9, 3) || holds(b, 1, 2, 9) {
		t.Error("a pattern passes for another")
	}
	b[4095] ^= 1
	if holds(b, 1, 2, 3) {
		t.Error("the last byte does not matter")
	}
}

func TestRequestsThatFailAreCountedAndNotVerified(t *testing.T) {
	d := newDevice()
	d.fail.Store(true)
	c := d.serve(t)
	c.Write, c.Verify, c.Reads, c.Count = true, true, 50, 200
	r := ran(t, c)
	if !r.Bad() || r.Failed != 200 || r.Verified.Blocks != 0 || r.FirstErr != vblk.ErrIO.Error() {
		t.Errorf("%d failed because of %q, %+v", r.Failed, r.FirstErr, r.Verified)
	}
}

func TestRequestsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector the runtime allocates by itself")
	}
	d := newDevice()
	c := d.serve(t)
	c.Queues, c.Count = 1, 100_000
	r := ran(t, c)
	t.Logf("%d requests, %d allocations", r.Read.Requests, r.Mallocs)
	if r.Read.Requests != c.Count || r.Mallocs > 100 {
		t.Errorf("%d requests, %d allocations in this process, the device's included", r.Read.Requests, r.Mallocs)
	}
}

// A disk that never answers does not keep anybody longer than Late.
func TestADiskThatHangsIsLeft(t *testing.T) {
	d := newDevice()
	d.hold.Store(true)
	c := d.serve(t)
	c.Late, c.Duration = 50*time.Millisecond, 50*time.Millisecond
	r, err := Run(t.Context(), c, nil)
	if err == nil || !strings.Contains(err.Error(), "16 requests did not come back") || r == nil {
		t.Errorf("%v", err)
	}
}

func TestWhatCannotBeIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	d := newDevice()
	good := d.serve(t)
	good.Count = 1
	for text, change := range map[string]func(*Config){
		"say --write":             func(c *Config) { c.Reads = 99 },
		"use 0 to 100":            func(c *Config) { c.Reads = 101 },
		"use a multiple of 512":   func(c *Config) { c.Block = 100 },
		"use fewer":               func(c *Config) { c.Queues = 3 },
		"use a power of two":      func(c *Config) { c.Ring = 100 },
		"requests in flight: use": func(c *Config) { c.Depth = 0 },
		"use a smaller --region":  func(c *Config) { c.Size = diskSize + 1 },
		"use smaller blocks":      func(c *Config) { c.Block, c.Depth = 1<<20, 16 },
		"use 0 for never":         func(c *Config) { c.Flush = -1 },
		"use 1 to 256":            func(c *Config) { c.Queues = 257 },
	} {
		c := good
		change(&c)
		if _, err := Run(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
	c := good
	c.Verify = true // which writes
	if _, err := Run(t.Context(), c, nil); !errors.Is(err, errWrite) {
		t.Errorf("verify without --write: %v", err)
	}
	if d.writes != 0 {
		t.Errorf("%d writes", d.writes)
	}
	if r := ran(t, good); r.Read.Requests != 1 {
		t.Errorf("one that can be: %+v", r.Read)
	}
}

func TestAReadOnlyDiskIsNotWritten(t *testing.T) {
	d := newDevice()
	d.features |= vblk.FeatureRO
	c := d.serve(t)
	c.Write, c.Reads, c.Count = true, 0, 10
	if _, err := Run(t.Context(), c, nil); !errors.Is(err, vblk.ErrReadOnly) {
		t.Errorf("%v", err)
	}
	c.Reads = 100
	if r := ran(t, c); r.Read.Requests != 10 {
		t.Errorf("read %+v", r.Read)
	}
}
