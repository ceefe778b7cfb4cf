package vnet

import (
	"context"
	"encoding/binary"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Tx sends frames through one queue. It belongs to one worker.
type Tx struct {
	ring
	chains chains
	single [burstMax]memtable.Buf // scratch of SendFrames
	total  uint64                 // bytes of the frames in it
	short  bool                   // a frame needs more than a free descriptor, until something comes back
	// longest is the most bytes of a frame that the device does not cut, with
	// its header (virtio 1.2, 5.1.4.2: the MTU, if it was agreed on).
	longest uint32
}

// Send lends frames to the device, from the first on, and says how many: fewer
// than there are when the ring is full (see Wait) or there is no device. Each
// lies in its buffer behind [Headroom] bytes, which Send writes; it asks for no
// checksum and no segmentation. Buffers that were sent come back to the queue's
// Buffers when the device is done, in bursts, as Send needs room or by Reap.
//
// A frame in memory that the device cannot reach is copied (QueueStats.Copied),
// and what is no frame is dropped and counted (Refused): both are in n.
//
// Send does not allocate, nor wait.
func (t *Tx) Send(bufs []memtable.Buf) (n int) {
	t.enter()
	defer t.leave()
	if !t.begin(len(bufs)) {
		return 0
	}
	for n < len(bufs) {
		k, bytes := t.sendable(bufs[n:])
		k = t.q.AddBurst(bufs[n:n+k], virtio.Readable)
		if n += k; k > 0 {
			t.count(k, bytes)
		}
		if n == len(bufs) || t.q.Room() == 0 || t.q.Err() != nil {
			break
		}
		if t.short = !t.odd(bufs[n]); t.short {
			break
		}
		n++
	}
	t.publish()
	return n
}

// begin makes room for want chains, if there is a device.
func (t *Tx) begin(want int) bool {
	if !t.running || t.held || t.paused {
		return false
	}
	// A ring that is half empty is emptied no further: buffers come back many
	// at a time.
	if t.q.Room() < max(want, int(t.d.cfg.Size)/2) {
		t.reap()
	}
	t.reach.begin()
	return true
}

// sendable prepares the headers of bufs up to the first that cannot be sent as it
// is, or for which there is no room.
func (t *Tx) sendable(bufs []memtable.Buf) (n int, bytes uint64) {
	bufs = bufs[:min(len(bufs), t.q.Room())]
	for i := range bufs {
		b := &bufs[i]
		if b.Len < Headroom+minFrame || b.Len > min(b.Cap, t.longest) || !t.reach.has(b.Addr, b.Cap) {
			return i, bytes
		}
		clearHeader(b.VA)
		bytes += uint64(b.Len) - Headroom
	}
	return len(bufs), bytes
}

// clearHeader writes a header that asks for nothing, unless it is one already:
// a line of the cache that is only read stays where it is.
func clearHeader(va memtable.VA) {
	h := va.Bytes(Headroom)
	if binary.LittleEndian.Uint64(h)|uint64(binary.LittleEndian.Uint32(h[8:])) != 0 {
		clear(h)
	}
}

// count counts frames that the device has.
func (t *Tx) count(frames int, bytes uint64) {
	t.stats.Frames += uint64(frames)
	t.stats.Bytes += bytes
}

// odd is for a frame that cannot be lent as it is: a copy of it is, or it is
// dropped. false: try again later.
func (t *Tx) odd(b memtable.Buf) bool {
	one := t.back[:1]
	if b.Len < Headroom+minFrame || b.Len > min(b.Cap, t.longest) {
		t.refuse(b)
		return true
	}
	if t.bufs.Get(one) == 0 {
		t.stats.NoBuffers++
		return false
	}
	t.holds = one
	c := one[0]
	if !t.reach.has(c.Addr, c.Cap) || !Load(&c, Data(b)) {
		t.holds = nil
		t.bufs.Put(one)
		t.refuse(b)
		return true
	}
	clearHeader(c.VA)
	one[0] = c
	t.q.AddBurst(one, virtio.Readable) // there is room
	t.holds = nil
	t.count(1, uint64(c.Len)-Headroom)
	t.stats.Copied++
	one[0] = b
	t.bufs.Put(one)
	return true
}

// refuse drops a frame that nobody can send.
func (t *Tx) refuse(b memtable.Buf) {
	t.stats.Refused++
	t.back[0] = b
	t.bufs.Put(t.back[:1])
}

// Get lends buffers of the queue's Buffers, to put frames into, and tells how
// many: that is where what was sent comes back to, and is looked for if there are
// too few. Put takes those back that were not sent.
func (t *Tx) Get(dst []memtable.Buf) int {
	t.enter()
	defer t.leave()
	n := t.bufs.Get(dst)
	if n < len(dst) && t.reap() > 0 {
		n += t.bufs.Get(dst[n:])
	}
	return n
}

// Put takes back buffers that were not sent.
func (t *Tx) Put(src []memtable.Buf) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bufs.Put(src)
}

// Reap gives the buffers back that the device is done with, and says how many
// frames that were.
func (t *Tx) Reap() int {
	t.enter()
	defer t.leave()
	return t.reap()
}

// reap is Reap, with the gate held.
func (t *Tx) reap() (n int) {
	for {
		k := t.q.Reap(t.back[:])
		t.settle(k)
		if n += k; k < len(t.back) {
			t.short = t.short && n == 0
			return n
		}
	}
}

// settle gives the first k of what came back to the pool.
func (t *Tx) settle(k int) {
	if t.chains.lent > 0 {
		t.chains.settle(t.back[:k], t.bufs)
		return
	}
	t.bufs.Put(t.back[:k])
}

// Wait parks until there is room to send, a device that takes it, or something
// else changed: then Send is worth another try. The error is ctx's, or
// [ErrClosed].
func (t *Tx) Wait(ctx context.Context) error {
	return t.park(ctx, true, func() (bool, error) {
		t.reap()
		return t.q.Room() > 0 && !(t.short && t.q.Lent() > 0), nil
	})
}

// Lent is how many frames the device has and is not done with, as far as it was
// looked.
func (t *Tx) Lent() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.q.Lent()
}

// reclaim takes back what was lent to a device that is gone, or has given the
// ring back. It needs no memory of the ring's. The gate is held.
func (t *Tx) reclaim() {
	if t.q.Err() == nil { // what it was done with is not lost
		_ = memtable.Guard(func() error { t.reap(); return nil })
	}
	lost := t.q.Reclaim()
	t.stats.Lost += uint64(len(lost))
	for len(lost) > 0 {
		k := copy(t.back[:], lost)
		t.settle(k)
		lost = lost[k:]
	}
}
