package qemutest

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/pierrec/lz4/v4"
)

// image makes a bzImage with a payload.
func image(t *testing.T, content []byte) []byte {
	var frame bytes.Buffer
	w := lz4.NewWriter(&frame)
	if err := w.Apply(lz4.LegacyOption(true)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	const sectors, gap = 3, 40
	b := make([]byte, (sectors+1)*512+gap)
	b[setupSectors] = sectors
	copy(b[headerMagic:], "HdrS")
	binary.LittleEndian.PutUint32(b[payloadOffset:], gap)
	binary.LittleEndian.PutUint32(b[payloadLength:], uint32(frame.Len()+4))
	b = append(b, frame.Bytes()...)
	return binary.LittleEndian.AppendUint32(b, uint32(len(content)))
}

func TestKernelComesOutOfTheImageWhole(t *testing.T) {
	want := append([]byte("\x7fELF"), bytes.Repeat([]byte("kernel"), 100_000)...)
	got, err := unpackImage(image(t, want))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
	}
}

func TestImageThatIsCutIsAnError(t *testing.T) {
	whole := image(t, append([]byte("\x7fELF"), make([]byte, 10_000)...))
	for size := range len(whole) {
		if _, err := unpackImage(whole[:size]); err == nil {
			t.Fatalf("an image cut at %d of %d is unpacked", size, len(whole))
		}
	}
	if _, err := unpackImage(image(t, []byte("not a kernel"))); err == nil {
		t.Error("what is not an ELF file is taken for a kernel")
	}
}
