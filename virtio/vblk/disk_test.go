package vblk_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vblk"
)

// What is written is read again, at every alignment a read may have, with every
// combination of ring features and limits of the device.
func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	for name, c := range map[string]struct {
		wish   virtio.Features
		limits func(*vblk.Config)
		edit   func(*vblk.Options)
	}{
		"all":            {},
		"no indirect":    {wish: ^(virtio.FeatureIndirect | virtio.FeatureInOrder)},
		"no event":       {wish: ^(virtio.FeatureEventIdx | virtio.FeatureInOrder)},
		"in order":       {wish: ^virtio.Features(0)},
		"nothing":        {wish: virtio.FeatureVersion1},
		"small segments": {limits: func(c *vblk.Config) { c.SizeMax, c.SegMax = 300, 3 }},
		"one segment":    {limits: func(c *vblk.Config) { c.SegMax, c.SizeMax = 1, 4096 }},
		"large blocks":   {limits: func(c *vblk.Config) { c.BlockSize = 4096 }},
		"short ring":     {edit: func(o *vblk.Options) { o.Size, o.BounceSize, o.BounceCount = 4, 4096, 3 }},
		"four queues":    {edit: func(o *vblk.Options) { o.Queues = 4 }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlatter(4096)
			if c.limits != nil {
				c.limits(&p.config)
			}
			r := open(t, p.listen(t), func(o *vblk.Options) {
				o.Features, o.BounceSize = c.wish, 16<<10
				if c.edit != nil {
					c.edit(o)
				}
			})
			all := noise(1<<20, 1)
			if n, err := r.WriteAt(all, 4096); err != nil || n != len(all) {
				t.Fatalf("%d bytes were written: %v", n, err)
			}
			p.edit(func() {
				if !bytes.Equal(p.data[4096:4096+len(all)], all) {
					t.Fatal("the disk holds something else than was written")
				}
			})
			r.readBack(t, 4096, all)
			for _, off := range []int{0, 1, 511, 512, 4095, 70000} {
				for _, n := range []int{1, 511, 513, 5000, 100000} {
					r.readBack(t, 4096+int64(off), all[off:off+n])
				}
			}
		})
	}
}

// Reads end where the disk does, as io.ReaderAt says.
func TestReadingEndsWithTheDisk(t *testing.T) {
	r := open(t, newPlatter(8).listen(t), nil)
	b := make([]byte, 1024)
	if n, err := r.ReadAt(b, 4096-100); n != 100 || err != io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := r.ReadAt(b, 4096); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d bytes, %v", n, err)
	}
	if _, err := r.WriteAt(b, 4096-512); !errors.Is(err, vblk.ErrRange) {
		t.Errorf("a write past the end: %v", err)
	}
	if _, err := r.WriteAt(b[:100], 0); !errors.Is(err, vblk.ErrAlign) {
		t.Errorf("a write of less than a block: %v", err)
	}
	if err := r.ReadBufs(t.Context(), 1<<63, []memtable.Buf{r.buf(t, 512)}); !errors.Is(err, vblk.ErrRange) {
		t.Errorf("a read that wraps: %v", err)
	}
}

// Buffers of any length make one run of sectors, and are not copied.
func TestBuffersAreSplitAtBlocks(t *testing.T) {
	p := newPlatter(4096)
	p.config.SegMax, p.config.SizeMax = 4, 1000
	r := open(t, p.listen(t), nil)
	var in, out []memtable.Buf
	for _, n := range []int{100, 412, 1, 1, 510, 3000, 72, 0, 4096, 30, 0, 482} {
		in, out = append(in, r.buf(t, n)), append(out, r.buf(t, n))
	}
	want := noise(8704, 2)
	at := 0
	for _, b := range out {
		at += copy(b.VA.Bytes(uint64(b.Len)), want[at:])
	}
	must(t, r.WriteBufs(t.Context(), 5, out))
	p.edit(func() {
		if !bytes.Equal(p.data[5*512:5*512+at], want[:at]) {
			t.Error("the disk holds something else than was written")
		}
	})
	must(t, r.ReadBufs(t.Context(), 5, in))
	var got []byte
	for _, b := range in {
		got = append(got, b.VA.Bytes(uint64(b.Len))...)
	}
	if !bytes.Equal(got, want[:at]) {
		t.Error("the buffers hold something else than the disk")
	}
	// Six pieces for one block, where a request has four.
	var tiny []memtable.Buf
	for _, n := range []int{100, 100, 100, 100, 100, 12} {
		tiny = append(tiny, r.buf(t, n))
	}
	if err := r.WriteBufs(t.Context(), 0, tiny); !errors.Is(err, vblk.ErrLimit) {
		t.Errorf("a block in six pieces: %v", err)
	}
}

func TestCommandsReachTheDevice(t *testing.T) {
	p := newPlatter(4096)
	r := open(t, p.listen(t), nil)
	if id, err := r.ID(t.Context()); err != nil || id != "a disk of the test" {
		t.Errorf("id %q, %v", id, err)
	}
	all := noise(300*512, 3)
	_, err := r.WriteAt(all, 0)
	must(t, err)
	must(t, r.Flush(t.Context()))
	if served := p.types(); served[len(served)-1] != vblk.TypeFlush {
		t.Errorf("served %v, a flush at last?", served)
	}
	// The device takes 2 segments of 64 sectors at once, and refuses more.
	must(t, r.WriteZeroes(t.Context(), []vblk.Range{{0, 130}, {140, 0}, {150, 1}}, true))
	must(t, r.Discard(t.Context(), []vblk.Range{{200, 70}}))
	clear(all[:130*512])
	clear(all[150*512 : 151*512])
	copy(all[200*512:], bytes.Repeat([]byte{0xdd}, 70*512))
	r.readBack(t, 0, all)
	if err := r.Discard(t.Context(), []vblk.Range{{0, 1}, {4095, 2}}); !errors.Is(err, vblk.ErrRange) {
		t.Errorf("a discard past the end: %v", err)
	}
	r.readBack(t, 0, all)
	must(t, r.SetWriteback(t.Context(), false))
	if r.Config().Writeback {
		t.Error("writeback is on still")
	}
}

// What the device does not offer is refused here.
func TestWhatWasNotOfferedIsNotAsked(t *testing.T) {
	p := newPlatter(64)
	p.features = 0
	r := open(t, p.listen(t), nil)
	must(t, r.Flush(t.Context()))
	for what, err := range map[string]error{
		"discard":      r.Discard(t.Context(), []vblk.Range{{0, 1}}),
		"write zeroes": r.WriteZeroes(t.Context(), []vblk.Range{{0, 1}}, false),
		"writeback":    r.SetWriteback(t.Context(), true),
	} {
		if !errors.Is(err, vblk.ErrUnsupported) || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if served := p.types(); len(served) != 0 {
		t.Errorf("the device was asked for %v", served)
	}
}

// A disk that is read-only refuses before the device does.
func TestAReadOnlyDiskIsNotWrittenTo(t *testing.T) {
	p := newPlatter(64)
	p.features |= vblk.FeatureRO
	r := open(t, p.listen(t), func(o *vblk.Options) { o.Features = diskFeatures }) // RO is not wished for
	b := r.buf(t, 512)
	_, err := r.WriteAt(make([]byte, 512), 0)
	for what, err := range map[string]error{
		"write": err, "buffers": r.WriteBufs(t.Context(), 0, []memtable.Buf{b}),
		"discard": r.Discard(t.Context(), []vblk.Range{{0, 1}}), "zeroes": r.WriteZeroes(t.Context(), []vblk.Range{{0, 1}}, false),
	} {
		if !errors.Is(err, vblk.ErrReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, r.ReadBufs(t.Context(), 0, []memtable.Buf{b}))
	if served := p.types(); !slices.Equal(served, []vblk.Type{vblk.TypeIn}) {
		t.Errorf("the device was asked for %v", served)
	}
}

// Many goroutines share the queues; each finds what it wrote.
func TestManyGoroutinesShareADisk(t *testing.T) {
	p := newPlatter(8192)
	p.edit(func() { p.reversed = true })
	r := open(t, p.listen(t), func(o *vblk.Options) { o.Queues, o.Size, o.BounceCount = 2, 8, 5 })
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			at := int64(g) * 256 * 512
			for round := range 20 {
				want := noise(512*(1+(g+round)%200), byte(g*20+round))
				if _, err := r.WriteAt(want, at); err != nil {
					t.Error(err)
					return
				}
				got := make([]byte, len(want))
				if _, err := r.ReadAt(got, at); err != nil || !bytes.Equal(got, want) {
					t.Errorf("goroutine %d, round %d: %v", g, round, err)
					return
				}
			}
		})
	}
	all.Wait()
	for i, q := range r.Stats().Queues {
		if q.Lent != 0 || q.Submitted != q.Completed || q.Submitted == 0 {
			t.Errorf("queue %d: %+v", i, q)
		}
	}
}

// A disk that grows is told of.
func TestAResizeIsTold(t *testing.T) {
	p := newPlatter(64)
	told := make(chan vblk.Config, 4)
	r := open(t, p.listen(t), func(o *vblk.Options) { o.OnChange = func(c vblk.Config) { told <- c } })
	p.edit(func() { p.config.Capacity, p.data = 128, make([]byte, 128*512) })
	must(t, (<-p.opened).NotifyConfig())
	if c := <-told; c.Capacity != 128 || r.Config().Capacity != 128 {
		t.Errorf("told of %d sectors, has %d", c.Capacity, r.Config().Capacity)
	}
	_, err := r.WriteAt(make([]byte, 512), 127*512)
	must(t, err)
}

// Buffers that the disk copies through may be more than one extent of the arena
// has room for; none of them may lie across the border of two.
func TestBuffersOfTheDiskLieInOneExtentEach(t *testing.T) {
	p := newPlatter(8192)
	r := open(t, p.listen(t), func(o *vblk.Options) { o.BounceCount, o.BounceSize = 40, 68<<10 })
	want := noise(3<<20, 1)
	if _, err := r.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	r.readBack(t, 0, want)
}
