package vblk_test

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vblk"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

const sectorsOfTest = 64

// Every road a request can take ends in a status, in the last byte that the used
// length covers, and nothing but what was asked for changes the disk.
func TestEveryRequestHasAStatusAndAnExactLength(t *testing.T) {
	in := func(n ...int) []int { return n }
	for name, c := range map[string]struct {
		out    [][]byte
		in     []int
		want   vblk.Status
		ro     bool
		change bool
	}{
		"read":                      {out: [][]byte{header(vblk.TypeIn, 3)}, in: in(1024, 1)},
		"read of the last sector":   {out: [][]byte{header(vblk.TypeIn, 63)}, in: in(512, 1)},
		"read of nothing":           {out: [][]byte{header(vblk.TypeIn, 64)}, in: in(1)},
		"read, one buffer":          {out: [][]byte{header(vblk.TypeIn, 0)}, in: in(513)},
		"read past the end":         {out: [][]byte{header(vblk.TypeIn, 63)}, in: in(1024, 1), want: vblk.StatusIOErr},
		"read behind the end":       {out: [][]byte{header(vblk.TypeIn, 65)}, in: in(1), want: vblk.StatusIOErr},
		"read, sector wraps":        {out: [][]byte{header(vblk.TypeIn, 1<<55)}, in: in(512, 1), want: vblk.StatusIOErr},
		"read, sector is all ones":  {out: [][]byte{header(vblk.TypeIn, ^uint64(0))}, in: in(1024, 1), want: vblk.StatusIOErr},
		"read of half a sector":     {out: [][]byte{header(vblk.TypeIn, 0)}, in: in(256, 1), want: vblk.StatusIOErr},
		"write":                     {out: [][]byte{header(vblk.TypeOut, 1), noise(512, 3)}, in: in(1), change: true},
		"write in the header's":     {out: [][]byte{append(header(vblk.TypeOut, 1), noise(512, 3)...)}, in: in(1), change: true},
		"write past the end":        {out: [][]byte{header(vblk.TypeOut, 63), noise(1024, 3)}, in: in(1), want: vblk.StatusIOErr},
		"write of a byte too many":  {out: [][]byte{header(vblk.TypeOut, 0), noise(513, 3)}, in: in(1), want: vblk.StatusIOErr},
		"write to a read-only disk": {out: [][]byte{header(vblk.TypeOut, 0), noise(512, 3)}, in: in(1), want: vblk.StatusIOErr, ro: true},
		"write with room to spare":  {out: [][]byte{header(vblk.TypeOut, 1), noise(512, 3)}, in: in(100, 1), change: true},
		"flush":                     {out: [][]byte{header(vblk.TypeFlush, 0)}, in: in(1)},
		"flush of a read-only disk": {out: [][]byte{header(vblk.TypeFlush, 0)}, in: in(1), ro: true},
		"id":                        {out: [][]byte{header(vblk.TypeGetID, 0)}, in: in(20, 1)},
		"id in little room":         {out: [][]byte{header(vblk.TypeGetID, 0)}, in: in(3, 1)},
		"unknown type":              {out: [][]byte{header(77, 0)}, in: in(1), want: vblk.StatusUnsupp},
		"unknown type with room":    {out: [][]byte{header(77, 0)}, in: in(512, 1), want: vblk.StatusUnsupp},
		"legacy scsi":               {out: [][]byte{header(2, 0), noise(96, 1)}, in: in(96, 16, 1), want: vblk.StatusUnsupp},
		"short header":              {out: [][]byte{header(vblk.TypeIn, 0)[:15]}, in: in(512, 1), want: vblk.StatusIOErr},
		"no header":                 {in: in(512, 1), want: vblk.StatusIOErr},
		"discard":                   {out: [][]byte{header(vblk.TypeDiscard, 0), ranges(vblk.Segment{Sector: 8, Sectors: 8})}, in: in(1), change: true},
		"discard with a flag":       {out: [][]byte{header(vblk.TypeDiscard, 0), ranges(vblk.Segment{Sectors: 8, Flags: vblk.Unmap})}, in: in(1), want: vblk.StatusUnsupp},
		"discard of nothing":        {out: [][]byte{header(vblk.TypeDiscard, 0)}, in: in(1), want: vblk.StatusIOErr},
		"discard, half a range":     {out: [][]byte{header(vblk.TypeDiscard, 0), make([]byte, 24)}, in: in(1), want: vblk.StatusIOErr},
		"discard, too many":         {out: [][]byte{header(vblk.TypeDiscard, 0), make([]byte, 33*16)}, in: in(1), want: vblk.StatusIOErr},
		"discard past the end":      {out: [][]byte{header(vblk.TypeDiscard, 0), ranges(vblk.Segment{Sector: 60, Sectors: 5})}, in: in(1), want: vblk.StatusIOErr},
		"discard, second past":      {out: [][]byte{header(vblk.TypeDiscard, 0), ranges(vblk.Segment{Sectors: 8}, vblk.Segment{Sector: ^uint64(0), Sectors: 1})}, in: in(1), want: vblk.StatusIOErr},
		"discard on a read-only":    {out: [][]byte{header(vblk.TypeDiscard, 0), ranges(vblk.Segment{Sectors: 8})}, in: in(1), want: vblk.StatusIOErr, ro: true},
		"zeroes":                    {out: [][]byte{header(vblk.TypeWriteZeroes, 0), ranges(vblk.Segment{Sector: 1, Sectors: 3})}, in: in(1), change: true},
		"zeroes, unmapped":          {out: [][]byte{header(vblk.TypeWriteZeroes, 0), ranges(vblk.Segment{Sector: 1, Sectors: 3, Flags: vblk.Unmap})}, in: in(1), change: true},
		"zeroes, unknown flag":      {out: [][]byte{header(vblk.TypeWriteZeroes, 0), ranges(vblk.Segment{Sectors: 3, Flags: 2})}, in: in(1), want: vblk.StatusUnsupp},
		"zeroes, too large":         {out: [][]byte{header(vblk.TypeWriteZeroes, 0), ranges(vblk.Segment{Sectors: ^uint32(0)})}, in: in(1), want: vblk.StatusIOErr},
	} {
		t.Run(name, func(t *testing.T) {
			path, before := image(t, sectorsOfTest)
			d := newDevice(t, vblk.DeviceOptions{
				Storage: openImage(t, path, vblk.FileOptions{ReadOnly: c.ro}), ReadOnly: c.ro, Discard: !c.ro, Serial: "a serial",
			})
			got := newTarget(t, d).ask(virtiotest.Request{Out: c.out, In: c.in})
			room := 0
			for _, n := range c.in {
				room += n
			}
			if len(got) != room {
				t.Fatalf("%d bytes were written, of %d", len(got), room)
			}
			if s := vblk.Status(got[room-1]); s != c.want {
				t.Errorf("status %d, want %d", s, c.want)
			}
			if bytes.Contains(got, bytes.Repeat([]byte{virtiotest.Fresh}, 16)) {
				t.Error("the used length covers bytes that were not written")
			}
			after, err := os.ReadFile(path)
			must(t, err)
			if same := bytes.Equal(before, after); same == c.change || len(after) != len(before) {
				t.Errorf("the disk is unchanged: %v, and has %d bytes", same, len(after))
			}
		})
	}
}

// Header, data and status may be cut anywhere, also in indirect tables and
// across regions.
func TestDescriptorsMayCutARequestAnywhere(t *testing.T) {
	path, before := image(t, sectorsOfTest)
	d := newDevice(t, vblk.DeviceOptions{Storage: openImage(t, path, vblk.FileOptions{})})
	g := newTarget(t, d)
	h, data := header(vblk.TypeOut, 5), noise(1024, 4)
	for _, shape := range []virtiotest.Shape{virtiotest.Chained, virtiotest.Indirect} {
		for _, across := range []bool{false, true} {
			for _, cut := range []int{1, 3, 15, 16, 17, 500, 1039} {
				whole := slices.Concat(h, data)
				got := g.ask(virtiotest.Request{Out: [][]byte{whole[:cut], whole[cut:]}, In: []int{1}, Shape: shape, Across: across})
				if !bytes.Equal(got, []byte{0}) {
					t.Fatalf("write cut at %d: %v", cut, got)
				}
				h, head, tail := header(vblk.TypeIn, 5), min(cut, 15), min(cut, 1024)
				got = g.ask(virtiotest.Request{
					Out: [][]byte{h[:head], h[head:]}, In: []int{tail, 1025 - tail}, Shape: shape, Across: across,
				})
				if !bytes.Equal(got, append(slices.Clone(data), 0)) {
					t.Fatalf("what was written is read otherwise, cut at %d", cut)
				}
			}
		}
	}
	after, err := os.ReadFile(path)
	must(t, err)
	if copy(before[5*512:], data); !bytes.Equal(before, after) {
		t.Error("the disk holds something else than was written")
	}
}

// faulty is a storage on which everything fails.
type faulty struct{ err error }

func (f faulty) Size() (int64, error)                 { return 1 << 20, nil }
func (f faulty) ReadVec([][]byte, int64) error        { return f.err }
func (f faulty) WriteVec([][]byte, int64, bool) error { return f.err }
func (f faulty) Sync() error                          { return f.err }
func (f faulty) Discard(int64, int64) error           { return f.err }
func (f faulty) Zero(off, n int64, unmap bool) error  { return f.err }

// What the storage fails with is IOERR for the driver, and told to the operator.
func TestErrorsOfTheStorageAreIOErrors(t *testing.T) {
	d := newDevice(t, vblk.DeviceOptions{Storage: faulty{syscall.ENOSPC}, Discard: true})
	g := newTarget(t, d)
	one := ranges(vblk.Segment{Sectors: 1})
	for i, c := range []virtiotest.Request{
		{Out: [][]byte{header(vblk.TypeIn, 0)}, In: []int{512, 1}},
		{Out: [][]byte{header(vblk.TypeOut, 0), make([]byte, 512)}, In: []int{1}},
		{Out: [][]byte{header(vblk.TypeFlush, 0)}, In: []int{1}},
		{Out: [][]byte{header(vblk.TypeDiscard, 0), one}, In: []int{1}},
		{Out: [][]byte{header(vblk.TypeWriteZeroes, 0), one}, In: []int{1}},
	} {
		got := g.ask(c)
		if s := d.Stats(); got[len(got)-1] != byte(vblk.StatusIOErr) || s.Failed != uint64(i+1) || !errors.Is(s.LastError, syscall.ENOSPC) {
			t.Errorf("request %d: %v, %+v", i, got, s)
		}
		if len(got) > 1 && !bytes.Equal(got[:512], make([]byte, 512)) {
			t.Error("a read that failed left something of the driver's in the buffer")
		}
	}
}

// A chain that has no byte for a status comes back, with length 0, and does
// nothing.
func TestAChainWithoutRoomForAStatusDoesNothing(t *testing.T) {
	path, before := image(t, sectorsOfTest)
	d := newDevice(t, vblk.DeviceOptions{Storage: openImage(t, path, vblk.FileOptions{})})
	if got := newTarget(t, d).ask(virtiotest.Request{Out: [][]byte{header(vblk.TypeOut, 0), noise(512, 1)}}); len(got) != 0 {
		t.Errorf("%d bytes were written", len(got))
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) || d.Stats().Mute != 1 {
		t.Errorf("the disk was written: %v, %+v", err, d.Stats())
	}
}

// No trick with descriptors costs more than its chain, except those that break
// a ring for every device.
func TestTricksWithChainsCostTheChain(t *testing.T) {
	for _, trick := range virtiotest.Tricks(virtio.Both) {
		if !trick.Fits(ringFeatures) {
			continue
		}
		t.Run(trick.Name, func(t *testing.T) {
			path, before := image(t, sectorsOfTest)
			g := newTarget(t, newDevice(t, vblk.DeviceOptions{Storage: openImage(t, path, vblk.FileOptions{})}))
			must(t, trick.Play(g.Raw()))
			g.Publish()
			g.serve()
			if broken := g.Queue.Err() != nil; broken != trick.Breaks {
				t.Errorf("the ring's error is %v", g.Queue.Err())
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the disk was written: %v", err)
			}
		})
	}
}
