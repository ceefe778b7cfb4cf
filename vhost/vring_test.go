package vhost

import (
	"encoding/binary"
	"testing"

	"github.com/vhostd/vhostd/virtio"
)

// TestADriverIsCalledForWhatAnEarlierBackEndUsed: the one before may have died
// before it called. A ring that nobody used yet owes nothing.
func TestADriverIsCalledForWhatAnEarlierBackEndUsed(t *testing.T) {
	for _, c := range []struct {
		name  string
		base  virtio.Position
		used  uint16
		rings uint64
	}{{"fresh", 0, 0, 0}, {"used", 5, 5, 1}, {"in flight", 5, 3, 1}, {"wrapped", 5, 0, 1}} {
		t.Run(c.name, func(t *testing.T) {
			mem := make([]byte, 3*4096)
			binary.LittleEndian.PutUint16(mem[2*4096+2:], c.used)
			r := newVring(virtio.NewQueue(virtio.QueueOptions{}), false, new(bells))
			r.base = c.base
			for range 2 { // what is owed is paid once
				ring := virtio.Ring{Size: 8, Desc: mem[:4096], Avail: mem[4096:8192], Used: mem[8192:]}
				if err := r.place(&virtio.View{Ring: ring}); err != nil {
					t.Fatal(err)
				}
			}
			if rings, _ := r.call.Counts(); rings != c.rings {
				t.Errorf("the driver is called %d times, want %d", rings, c.rings)
			}
		})
	}
}
