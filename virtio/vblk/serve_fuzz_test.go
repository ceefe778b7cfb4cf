package vblk_test

import (
	"bytes"
	"testing"

	"github.com/vhostd/vhostd/virtio/vblk"
	"github.com/vhostd/vhostd/virtio/virtiotest"
)

// memory is a storage that is none. It panics outside of its size.
type memory []byte

func (m memory) Size() (int64, error) { return int64(len(m)), nil }
func (m memory) Sync() error          { return nil }

func (m memory) ReadVec(p [][]byte, off int64) error {
	for _, b := range p {
		off += int64(copy(b, m[off:off+int64(len(b))]))
	}
	return nil
}

func (m memory) WriteVec(p [][]byte, off int64, _ bool) error {
	for _, b := range p {
		off += int64(copy(m[off:off+int64(len(b))], b))
	}
	return nil
}

func (m memory) Discard(off, n int64) error      { return m.Zero(off, n, true) }
func (m memory) Zero(off, n int64, _ bool) error { clear(m[off : off+n]); return nil }

// FuzzDevice: whatever a request says and however it is cut, the chain comes
// back once, all its room is written, and the file keeps its size; a model of the disk
// in memory agrees about its content.
func FuzzDevice(f *testing.F) {
	f.Add(append(header(vblk.TypeIn, 1), make([]byte, 512)...), uint16(16), uint16(512), uint16(1), false)
	f.Add(append(header(vblk.TypeOut, 1), make([]byte, 1024)...), uint16(16), uint16(1), uint16(0), false)
	f.Add(append(header(vblk.TypeWriteZeroes, 0), ranges(vblk.Segment{Sector: 1, Sectors: 2})...), uint16(3), uint16(1), uint16(0), true)
	f.Add(append(header(vblk.TypeDiscard, 0), ranges(vblk.Segment{Sector: 1, Sectors: 2})...), uint16(20), uint16(1), uint16(0), true)
	f.Add(header(vblk.TypeGetID, 0), uint16(8), uint16(7), uint16(30), true)
	content := noise(sectorsOfTest*vblk.SectorSize, 9)
	f.Fuzz(func(t *testing.T, out []byte, cut, in1, in2 uint16, indirect bool) {
		if len(out) == 0 || len(out) > 4096 || int(in1)+int(in2) == 0 || int(in1)+int(in2) > 4096 {
			return
		}
		disk, model := memory(bytes.Clone(content)), bytes.Clone(content)
		d := newDevice(t, vblk.DeviceOptions{Storage: disk, Discard: true, Serial: "fuzz"})
		q := virtiotest.Request{}
		if cut := int(cut) % len(out); cut > 0 {
			q.Out = [][]byte{out[:cut], out[cut:]}
		} else {
			q.Out = [][]byte{out}
		}
		for _, n := range []uint16{in1, in2} {
			if n > 0 {
				q.In = append(q.In, int(n))
			}
		}
		if indirect {
			q.Shape = virtiotest.Indirect
		}
		got := newTarget(t, d).ask(q)
		if len(got) != int(in1)+int(in2) || got[len(got)-1] > 2 {
			t.Fatalf("%d bytes of %d, status %d", len(got), int(in1)+int(in2), got[len(got)-1])
		}
		ok := got[len(got)-1] == 0
		if ok {
			expect(t, model, out, got[:len(got)-1])
		}
		if !bytes.Equal(disk, model) {
			t.Fatalf("the disk is another than the model, status ok: %v", ok)
		}
	})
}

// expect does a request that succeeded on the model, the plain way.
func expect(t *testing.T, model, out, got []byte) {
	h := vblk.DecodeHeader((*[vblk.HeaderLen]byte)(out))
	data := out[vblk.HeaderLen:]
	switch h.Type {
	case vblk.TypeIn:
		if !bytes.Equal(got, model[h.Sector*512:][:len(got)]) {
			t.Error("a read gave something else than is on the disk")
		}
	case vblk.TypeOut:
		copy(model[h.Sector*512:], data)
	case vblk.TypeDiscard, vblk.TypeWriteZeroes:
		for ; len(data) > 0; data = data[vblk.SegmentLen:] {
			s := vblk.DecodeSegment((*[vblk.SegmentLen]byte)(data))
			clear(model[s.Sector*512:][:s.Sectors*512]) // as a hole in a file does
		}
	}
}
