package virtio_test

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// mill is a device in event mode on a goroutine of its own: it serves, arms,
// looks again, and sleeps until it is kicked.
func mill(b *bus, dev *station, stop <-chan struct{}, serve func(q *virtio.Queue)) {
	for {
		dev.reader.Enter()
		dev.q.Begin(dev.reader)
		dev.q.Disarm()
		serve(dev.q)
		work := dev.q.Arm()
		dev.q.End()
		dev.reader.Leave()
		if work {
			continue
		}
		select {
		case <-b.kick.C():
		case <-stop:
			return
		}
	}
}

// numbers serves bursts: it sums up what the driver wrote, or writes numbers in
// sequence.
func numbers(dev *station, d virtio.Dir, sum *uint64) func(q *virtio.Queue) {
	serial := uint32(0)
	return func(q *virtio.Queue) {
		for n := 1; q.Take(&dev.b, d, n) > 0; n = n%7 + 1 {
			for i := range dev.b.N {
				e := &dev.b.Elem[i]
				if d == virtio.Readable {
					*sum += uint64(binary.LittleEndian.Uint32(e.VA.Bytes(4)))
					continue
				}
				binary.LittleEndian.PutUint32(e.VA.Bytes(4), serial)
				*sum += uint64(serial)
				e.Wrote = 4
				serial++
			}
			q.Put(&dev.b)
			if q.Publish() {
				q.Call()
			}
		}
	}
}

// trade lends n buffers in bursts, over and over the same ones, and sums up what
// they carry. It sleeps only when it was promised a call.
func trade(b *bus, pool []memtable.Buf, d virtio.Dir, n int) (sum uint64, err error) {
	free, back := append([]memtable.Buf(nil), pool...), make([]memtable.Buf, len(pool))
	for sent, done := 0, 0; done < n; {
		burst := free[:min(sent%11+1, len(free), n-sent)]
		for i := range burst {
			if d == virtio.Readable {
				burst[i].Len = 4
				binary.LittleEndian.PutUint32(burst[i].VA.Bytes(4), uint32(sent+i))
			}
		}
		added := b.q.AddBurst(burst, d)
		for i := range added {
			if d == virtio.Readable {
				sum += uint64(sent + i)
			}
		}
		sent, free = sent+added, free[added:]
		b.q.Publish()
		b.q.Kick()
		b.q.Disarm()
		for {
			got := b.q.Reap(back)
			for _, v := range back[:got] {
				if d == virtio.Writable {
					sum += uint64(binary.LittleEndian.Uint32(v.VA.Bytes(uint64(v.Len))))
				}
			}
			if free, done = append(free, back[:got]...), done+got; b.q.Err() != nil {
				return sum, b.q.Err()
			}
			if sent < n && b.q.Room() > 0 && len(free) > 0 || done == n {
				break
			}
			if b.q.Arm() {
				continue
			}
			select {
			case <-b.call.C():
			case <-time.After(patience):
				return sum, fmt.Errorf("%d of %d buffers came back, and then no call", done, sent)
			}
		}
	}
	return sum, nil
}

// TestNoKickAndNoCallIsLost runs driver and device on their own goroutines, on
// heap memory so that the race detector sees what passes between them. One
// notification lost, and both sleep.
func TestNoKickAndNoCallIsLost(t *testing.T) {
	buffers := 60000
	if testing.Short() || raceEnabled {
		buffers = 8000
	}
	for _, size := range []uint16{1, 4, 64} {
		for _, f := range []virtio.Features{0, eventIdx, inOrder | eventIdx} {
			for _, d := range []virtio.Dir{virtio.Readable, virtio.Writable} {
				t.Run(fmt.Sprintf("size=%d/%v/%d", size, f.Names(virtio.Net), d), func(t *testing.T) {
					b := newBus(t, busOptions{size: size, features: f, start: 0xf000, bytes: 8192})
					dev, stop, done := b.device(), make(chan struct{}), make(chan struct{})
					var saw uint64
					go func() {
						defer close(done)
						mill(b, dev, stop, numbers(dev, d, &saw))
					}()
					sum, err := trade(b, b.bufs(t, 80, 16, 0), d, buffers)
					close(stop)
					<-done
					if err != nil || sum != saw {
						t.Errorf("the driver's sum is %d, the device's %d: %v", sum, saw, err)
					}
					t.Logf("%d buffers, %d kicks, %d calls", buffers, b.kick.Rings(), b.call.Rings())
				})
			}
		}
	}
}
