package fabric

import (
	"testing"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/vhost/vhosttest"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/virtiotest"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// plugRig makes a rig's queue the receive queue of a port, without a front-end.
func plugRig(t *testing.T, p *Port, o virtiotest.Options) *virtiotest.Rig {
	t.Helper()
	o.Domain, o.Shared = p.sw.Domain(), true
	rig := virtiotest.New(t, o)
	c := &conn{port: p, session: new(vhost.Session)}
	c.live.Store(&[]*receiver{{Queue: rig.Queue, buffer: goodBuffer}})
	p.conn.Store(c)
	return rig
}

// TestAReceiverWithUselessBuffersHoldsNobodyUp: a guest gives buffers that are
// too small and bad ones in turn, as fast as they are taken. What is sent to it
// is dropped after a few of them.
func TestAReceiverWithUselessBuffersHoldsNobodyUp(t *testing.T) {
	const frames, endless, few = 8, 1 << 18, 1 << 10
	for name, features := range map[string]virtio.Features{"single": 0, "merged": vnet.FeatureMrgRxbuf} {
		t.Run(name, func(t *testing.T) {
			sw := New("test", Options{})
			from, _ := sw.AddPort(PortOptions{Name: "from"})
			to, _ := sw.AddPort(PortOptions{Name: "to"})
			rig := plugRig(t, to, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: virtio.MaxSize, Features: features}})
			useless(t, rig)
			sender := virtiotest.New(t, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: 64}, Domain: sw.Domain()})
			for range frames {
				sender.Send(make([]byte, vnet.MaxHeader), vhosttest.Frame(address(1), address(0), 60, 0))
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				w := newWorker(&conn{port: from}, 0)
				sender.Stay(func(q *virtio.Queue) { _ = w.forward(q) })
			}()
			for given := 0; given < endless; {
				given = int(rig.Queue.Stats().Chains)
				rig.Raw().Index(uint16(given) + rig.Size)
				select {
				case <-done:
					if given = int(rig.Queue.Stats().Chains); given > few {
						t.Errorf("%d buffers were looked at for %d frames", given, frames)
					}
					drops := to.Stats().Drops
					if n := drops[NoBuffers.String()] + drops[TooSmall.String()]; n != frames {
						t.Errorf("of %d frames are counted %v", frames, drops)
					}
					return
				default:
				}
			}
			t.Errorf("%d buffers were looked at for %d frames, and there is no end", endless, frames)
			<-done // the guest gives no more
		})
	}
}

// TestABufferOfSingleBytesIsNotFilled: it would cost its sender a thousand times
// the copy. It goes back empty, and the frame into the next one.
func TestABufferOfSingleBytesIsNotFilled(t *testing.T) {
	sw := New("test", Options{})
	from, _ := sw.AddPort(PortOptions{Name: "from"})
	to, _ := sw.AddPort(PortOptions{Name: "to"})
	rig := plugRig(t, to, virtiotest.Options{DriverOptions: virtiotest.DriverOptions{Size: 512, Features: virtio.FeatureIndirect}})
	bytes := make([]int, scatterMax+1)
	for i := range bytes {
		bytes[i] = 1
	}
	rig.Make(virtiotest.Request{In: bytes, Shape: virtiotest.Table})
	rig.Make(virtiotest.Request{In: []int{2048}})
	rig.Publish()
	sender := virtiotest.New(t, virtiotest.Options{Domain: sw.Domain()})
	sender.Send(make([]byte, vnet.MaxHeader), vhosttest.Frame(address(1), address(0), 60, 0))
	sender.Stay(func(q *virtio.Queue) { _ = newWorker(&conn{port: from}, 0).forward(q) })
	if used := rig.Take(); used.Len != 0 {
		t.Errorf("%d bytes were written in single bytes", used.Len)
	}
	if n := len(rig.Recv()); n != vnet.MaxHeader+60 {
		t.Errorf("the next buffer got %d bytes", n)
	}
}

// TestATurnEndsAfterSoManyBytes: a flood has a copy for each port, and whoever
// changes something at any of them waits for the turn's end.
func TestATurnEndsAfterSoManyBytes(t *testing.T) {
	const frames, size = turnBursts * burst, 60000
	memory := func() *virtiotest.Memory {
		return virtiotest.NewMemory(t, virtiotest.MemoryOptions{Areas: virtiotest.Areas(24 << 20)})
	}
	sw := New("test", Options{})
	from, _ := sw.AddPort(PortOptions{Name: "from"})
	for _, name := range []string{"to", "and to"} {
		to, _ := sw.AddPort(PortOptions{Name: name})
		rig := plugRig(t, to, virtiotest.Options{Memory: memory(), DriverOptions: virtiotest.DriverOptions{Size: frames}})
		for range frames {
			rig.Post(size + vnet.MaxHeader)
		}
	}
	sender := virtiotest.New(t, virtiotest.Options{Memory: memory(), DriverOptions: virtiotest.DriverOptions{Size: frames}, Domain: sw.Domain()})
	for range frames {
		sender.Send(append(make([]byte, vnet.MaxHeader), vhosttest.Frame(broadcast, address(0), size, 0)...))
	}
	w := newWorker(&conn{port: from}, 0)
	turns := 0
	for more := true; more; turns++ {
		sender.Stay(func(q *virtio.Queue) {
			if err := w.forward(q); err != nil {
				t.Error(err)
			}
			more = q.Arm()
		})
		if w.moved > turnBytes+2*burst*size {
			t.Errorf("%d bytes were copied in a turn", w.moved)
		}
	}
	if n := sender.Waiting(); turns < 2 || n != frames {
		t.Errorf("%d frames of %d came back after %d turns", n, frames, turns)
	}
}

// useless fills the available ring with a buffer that is too small and a chain
// without a byte, in turn.
func useless(t *testing.T, rig *virtiotest.Rig) {
	t.Helper()
	buffer, err := rig.Raw().Buffer(64)
	if err != nil {
		t.Fatal(err)
	}
	rig.Raw().Desc(0, virtiotest.Desc{Addr: buffer.Addr, Len: 4, Flags: virtiotest.Write})
	rig.Raw().Desc(1, virtiotest.Desc{Addr: buffer.Addr, Flags: virtiotest.Write})
	for i := range rig.Size {
		rig.Raw().Head(i, i%2)
	}
	rig.Raw().Index(rig.Size)
}
