package virtio_test

import (
	"strings"
	"testing"

	"github.com/vhostd/vhostd/virtio"
)

// TestEveryFeatureNameIsUnderstood: what is printed can be typed.
func TestEveryFeatureNameIsUnderstood(t *testing.T) {
	for _, id := range []virtio.DeviceID{virtio.Net, virtio.Block, virtio.Entropy, virtio.Vsock, virtio.FS} {
		for bit := range 64 {
			f := virtio.Features(1) << bit
			names := f.Names(id)
			if len(names) != 1 {
				t.Fatalf("device %d, bit %d is called %q", id, bit, names)
			}
			back, err := virtio.ParseFeature(id, names[0])
			if strings.HasPrefix(names[0], "bit ") != (err != nil) || err == nil && back != f {
				t.Errorf("device %d: %q is read as %#x: %v", id, names[0], uint64(back), err)
			}
		}
	}
}

// TestAnUnknownFeatureIsToldTheNames there are.
func TestAnUnknownFeatureIsToldTheNames(t *testing.T) {
	_, err := virtio.ParseFeature(virtio.Net, "mrg_rxbuff")
	if err == nil || !strings.Contains(err.Error(), "mrg_rxbuf,") {
		t.Errorf("the error is %v", err)
	}
}
