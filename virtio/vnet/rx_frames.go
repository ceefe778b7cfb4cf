package vnet

import (
	"encoding/binary"
	"slices"

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
	// The header is read once, as two words, and judged by these: the device can
	// change what lies there at any time.
	raw := b.VA.Bytes(MaxHeader)
	most, last := binary.LittleEndian.Uint64(raw), binary.LittleEndian.Uint32(raw[8:])
	n = 1
	if r.d.merged {
		n = int(last >> 16)
	}
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
	h := &dst[0].Header
	h.NumBuffers = uint16(n)
	if size > bufferGSO {
		return n, bad
	}
	// Most frames ask for nothing, and have a header of zeros.
	if most != 0 && !h.accept(most, uint16(last), r.offload, uint32(size)-Headroom) {
		return n, bad
	}
	return n, whole
}

// accept reads the header of a frame of size bytes, NumBuffers aside, judges what
// the device left to us by f, and clears what has no meaning (virtio 1.2,
// 5.1.6.4.2).
func (h *Header) accept(most uint64, csumOffset uint16, f virtio.Features, size uint32) bool {
	h.Flags, h.GSOType = uint8(most), uint8(most>>8)
	h.HdrLen, h.GSOSize = uint16(most>>16), uint16(most>>32)
	h.CsumStart, h.CsumOffset = uint16(most>>48), csumOffset
	if h.Check(f, size) != OK {
		return false
	}
	if h.Flags &= NeedsCsum | DataValid; !f.Has(FeatureCSUM) {
		h.Flags = 0
	}
	if h.Flags&NeedsCsum == 0 {
		h.CsumStart, h.CsumOffset = 0, 0
	}
	if h.GSOType == GSONone {
		h.HdrLen, h.GSOSize = 0, 0
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
// ring back. Frames that nobody has fetched are lost. It needs no memory of the
// ring's. The gate is held.
func (r *Rx) reclaim() {
	r.skip(len(r.got) - r.head)
	if r.q.Err() == nil {
		_ = memtable.Guard(func() error {
			for k := len(r.back); k == len(r.back); {
				k = r.q.Reap(r.back[:])
				r.stats.Lost += uint64(k)
				r.bufs.Put(r.back[:k])
			}
			return nil
		})
	}
	r.bufs.Put(r.q.Reclaim())
}

// cutOff takes all that a device is done with that is gone, and drops the
// beginning of a frame it did not show the end of: the next device begins a frame
// with the first buffer that it uses. The gate is held.
func (r *Rx) cutOff() {
	for k := burstMax; k == burstMax; {
		r.got = slices.Grow(r.got, burstMax)
		n := len(r.got)
		k = r.q.Reap(r.got[n : n+burstMax])
		r.got = r.got[:n+k]
	}
	begin := r.head
	defer func() { r.head = begin }() // a fault drops nothing
	frame := make([]Frame, r.d.cfg.Size)
	for r.head < len(r.got) {
		n, what := r.next(frame)
		if what == incomplete {
			break
		}
		r.head += n
	}
	r.stats.Lost += uint64(len(r.got) - r.head)
	r.bufs.Put(r.got[r.head:])
	r.got = r.got[:r.head]
	r.again = begin < len(r.got)
}
