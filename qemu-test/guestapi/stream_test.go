package guestapi_test

import (
	"bytes"
	"testing"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
	"pgregory.net/rapid"
)

func TestNoiseDoesNotDependOnHowItIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		pieces := rapid.SliceOfN(rapid.IntRange(0, 40), 1, 20).Draw(t, "pieces")
		n := guestapi.NewNoise(seed)
		var got []byte
		for _, size := range pieces {
			p := make([]byte, size)
			n.Read(p)
			got = append(got, p...)
		}
		want := make([]byte, len(got))
		guestapi.NewNoise(seed).Read(want)
		if !bytes.Equal(got, want) {
			t.Fatalf("in pieces %x, at once %x", got, want)
		}
	})
}

func TestNoiseOfTwoSeedsDiffers(t *testing.T) {
	a, b := make([]byte, 64), make([]byte, 64)
	guestapi.NewNoise(1).Read(a)
	guestapi.NewNoise(2).Read(b)
	if bytes.Equal(a, b) {
		t.Errorf("seeds 1 and 2 both give %x", a)
	}
}
