package memfd

import (
	"testing"
	"time"

	"github.com/vhostd/vhostd/memtable"
)

// TestWhatBecomesFreeDuringASweepIsSweptToo: giving memory back may take long,
// because mirrors are asked, and what is freed meanwhile was not looked at.
func TestWhatBecomesFreeDuringASweepIsSweptToo(t *testing.T) {
	for name, size := range map[string]uint64{"extents": fakeUnit, "what lies on the shelf": 64} {
		t.Run(name, func(t *testing.T) {
			f := plainFake(t, 4)
			h := heapOn(f, HeapOptions{Node: AnyNode})
			h.store.linger.wait = time.Millisecond
			began, end := make(chan bool), make(chan bool)
			f.parting = func(memtable.VA, uint64) error {
				began <- true
				<-end
				return nil
			}
			first, second := lend(t, h, fakeUnit, 0), lend(t, h, size, 0)
			freed(t, h, first)
			<-began
			freed(t, h, second)
			end <- true
			select {
			case <-began:
			case <-time.After(10 * time.Second):
				t.Fatalf("%d bytes stay for ever", f.held())
			}
			end <- true
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
