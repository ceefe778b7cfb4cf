package vnet

import (
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// verdict is what the next frame is.
type verdict uint8

const (
	whole      verdict = iota
	incomplete         // the device has not shown all of it
	bad                // its header is none
	tooLong            // there is no room for it
)

// next gives the frame that begins what came back, in n pieces.
func (r *Rx) next(dst []Frame) (n int, _ verdict) {
	got := r.got[r.head:]
	if len(got) == 0 {
		return 0, incomplete
	}
	b := &got[0]
	if b.Len < Headroom+minFrame {
		return 1, bad
	}
	// The header is copied once and judged by the copy: the device can change
	// what lies there at any time.
	raw := *(*[MaxHeader]byte)(b.VA.Bytes(MaxHeader))
	h := Decode((*[10]byte)(raw[:10]))
	h.NumBuffers = 1
	if r.d.merged {
		h.NumBuffers = uint16(raw[10]) | uint16(raw[11])<<8
	}
	n = int(h.NumBuffers)
	switch {
	case n == 0 || n > int(r.d.cfg.Size):
		return 1, bad
	case n > len(got):
		return 0, incomplete
	case n > len(dst):
		return n, tooLong
	}
	size := uint64(0)
	for i := range got[:n] {
		f := &dst[i]
		f.Buf, f.More, f.Bare = got[i], i+1 < n, i > 0
		f.Header = Header{}
		size += uint64(f.Len)
	}
	if size > bufferGSO || h.Flags|h.GSOType != 0 && !h.accept(r.offload, uint32(size)-Headroom) {
		return n, bad
	}
	dst[0].Header = h
	return n, whole
}

// accept judges what a device left to us of a frame of size bytes, which may be
// what f says, and clears what has no meaning (virtio 1.2, 5.1.6.4.2).
func (h *Header) accept(f virtio.Features, size uint32) bool {
	if h.Check(f, size) != OK {
		return false
	}
	h.Flags &= NeedsCsum | DataValid
	if !f.Has(FeatureCSUM) {
		h.Flags = 0
	}
	return true
}

// leaves gives the features of a driver as those of a sender that may do to it
// what its device may do.
func leaves(f virtio.Features) (sender virtio.Features) {
	for _, p := range []struct{ guest, host virtio.Features }{
		{FeatureGuestCSUM, FeatureCSUM}, {FeatureGuestTSO4, FeatureHostTSO4}, {FeatureGuestTSO6, FeatureHostTSO6},
		{FeatureGuestECN, FeatureHostECN}, {FeatureGuestUSO4, FeatureHostUSO}, {FeatureGuestUSO6, FeatureHostUSO},
	} {
		if f.Has(p.guest) {
			sender |= p.host
		}
	}
	return sender
}

// fill lends buffers to the device, as many as there is room for.
func (r *Rx) fill() {
	r.reach.begin()
	for want := burstMax; want > 0 && r.q.Err() == nil; {
		if want = min(r.q.Room(), burstMax); want == 0 {
			return
		}
		k := r.bufs.Get(r.back[:want])
		if k < want {
			r.stats.NoBuffers++
		}
		r.holds = r.back[:r.fit(r.back[:k])]
		good := r.q.AddBurst(r.holds, virtio.Writable)
		r.holds = r.holds[good:]
		if good < want {
			return
		}
	}
}

// fit keeps those of bufs that frames can be received in, and gives the others
// back.
func (r *Rx) fit(bufs []memtable.Buf) (n int) {
	for i := range bufs {
		if b := bufs[i]; b.Cap >= r.need && r.reach.has(b.Addr, b.Cap) {
			bufs[n], bufs[i] = b, bufs[n]
			n++
		}
	}
	if n < len(bufs) {
		r.stats.Refused += uint64(len(bufs) - n)
		r.bufs.Put(bufs[n:])
	}
	return n
}

// reclaim takes back what was lent to a device that is gone, or has given the
// ring back, and begins anew. Frames that nobody has fetched are lost. The gate
// is held.
func (r *Rx) reclaim() {
	r.skip(len(r.got) - r.head)
	for r.q.Err() == nil {
		k := r.q.Reap(r.back[:])
		r.stats.Lost += uint64(k)
		r.bufs.Put(r.back[:k])
		if k < len(r.back) {
			break
		}
	}
	r.bufs.Put(r.q.Reclaim())
	r.q.Reset()
}
