package conformance

import (
	"bytes"
	"testing"

	"github.com/vhostd/vhostd/vhost"
)

// Rule 105 (vhost-user, GET_CONFIG): The reply has as many bytes as were asked
// for, with zeros behind the end of the device's config space. A device without
// one answers nothing at all, which is the error.
func TestConfigIsReadAtTheSizeAsked(t *testing.T) {
	d := withConfig()
	for i := range d.space {
		d.space[i] = byte(i + 1)
	}
	f := plug(t, d, options{})
	for _, w := range []struct{ off, size int }{{0, 32}, {8, 57}, {31, 2}, {32, 8}, {0, 256}, {1 << 20, 4}} {
		want := make([]byte, w.size)
		copy(want, d.space[min(w.off, 32):])
		got, err := f.GetConfig(w.off, w.size)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes at %d: %x, want %x", w.size, w.off, got, want)
		}
	}
	without := plug(t, network(), options{})
	_, err := without.GetConfig(0, 8)
	without.refused(err)
}

// Rule 106★ (vhost-user, SET_CONFIG): A write of read-only bytes is refused,
// unless a migration makes it (flags 1). Flags that mean nothing, and a device
// without a config space, refuse it too.
func TestReadOnlyConfigIsWrittenByMigrationOnly(t *testing.T) {
	d := withConfig()
	f := plug(t, d, options{})
	must(t, f.SetConfig(16, []byte{1, 2}, false))
	f.refused(f.SetConfig(15, []byte{1, 2}, false))
	must(t, f.SetConfig(0, make([]byte, 32), true))
	f.nacked(vhost.SetConfig, payloadOf(vhost.Config{Offset: 16, Size: 1, Flags: 2, Data: []byte{9}}))
	if got, err := f.GetConfig(15, 3); err != nil || !bytes.Equal(got, []byte{0, 1, 2}) {
		t.Errorf("the config space holds %x (%v)", got, err)
	}
	without := plug(t, network(), options{})
	without.refused(without.SetConfig(16, []byte{1}, false))
}
