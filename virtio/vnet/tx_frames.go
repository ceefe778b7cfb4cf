package vnet

import (
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// SendFrames is Send for frames with offloads, of several buffers, or bare. What
// a frame asks of the device must have been agreed on ([Driver.Features]) and
// make sense (Header.Check); if not it is dropped and counted (Refused). n counts
// buffers, of whole frames.
func (t *Tx) SendFrames(frames []Frame) (n int) {
	t.enter()
	defer t.leave()
	if !t.begin(len(frames)) {
		return 0
	}
	for n < len(frames) && t.q.Err() == nil {
		k := t.singles(frames[n:])
		if k = t.q.AddBurst(t.single[:k], virtio.Readable); k > 0 {
			t.count(k, t.total)
			n += k
			continue
		}
		pieces, ok := t.chain(frames[n:])
		if t.short = !ok; !ok {
			break
		}
		n += pieces
	}
	t.publish()
	return n
}

// singles gathers frames of one buffer that can be sent as they are, up to the
// first that cannot.
func (t *Tx) singles(frames []Frame) (n int) {
	frames, t.total = frames[:min(len(frames), t.q.Room(), burstMax)], 0
	for i := range frames {
		f := &frames[i]
		if f.More || f.Bare || f.Len < Headroom+minFrame || f.Len > min(f.Cap, t.longest) || !t.reach.has(f.Addr, f.Cap) {
			return i
		}
		if f.Header.Flags|f.Header.GSOType == 0 {
			clearHeader(f.VA)
		} else if f.Header.Check(t.d.features, f.Len-Headroom) != OK {
			return i
		} else {
			f.Header.forDevice(f.VA)
		}
		t.single[i] = f.Buf
		t.total += uint64(f.Len) - Headroom
	}
	return len(frames)
}

// forDevice writes a header that passed Check (virtio 1.2, 5.1.6.2.1: flags is
// 0 or NEEDS_CSUM, and num_buffers 0).
func (h Header) forDevice(va memtable.VA) {
	h.Flags, h.NumBuffers = h.Flags&NeedsCsum, 0
	h.Encode((*[MaxHeader]byte)(va.Bytes(MaxHeader)))
}

// chain lends the first of frames, whatever it is made of, or drops it, and says
// how many pieces that were. ok is false if there is no room for it now.
func (t *Tx) chain(frames []Frame) (pieces int, ok bool) {
	size, good := uint64(0), true
	for more := true; more; pieces++ {
		if pieces == len(frames) {
			good = false // the burst ends before the frame
			break
		}
		f := &frames[pieces]
		n := uint64(f.Len)
		if pieces == 0 && !f.Bare {
			n -= Headroom
		}
		good = good && n-1 < uint64(f.Cap) && f.Len <= f.Cap && t.reach.has(f.Addr, f.Cap)
		size += n
		more = f.More
	}
	frames = frames[:pieces]
	h := frames[0].Header
	descs := pieces
	if frames[0].Bare {
		descs++
	}
	switch {
	case !good, size < minFrame, size > bufferGSO-Headroom, h.GSOType == GSONone && size > uint64(t.longest)-Headroom, descs > t.chains.longest(), h.Check(t.d.features, uint32(size)) != OK:
		t.drop(frames)
		return pieces, true
	case !t.chains.room(pieces):
		return 0, false
	}
	token := t.chains.keep(frames)
	if err := t.q.Add(t.chains.pieces(frames, h, token), nil, token); err != nil {
		t.chains.forget(token)
		return 0, false
	}
	t.chains.lent++
	t.count(1, size)
	return pieces, true
}

// drop gives a frame back that nobody can send.
func (t *Tx) drop(frames []Frame) {
	t.stats.Refused++
	for i := range frames {
		t.back[0] = frames[i].Buf
		t.bufs.Put(t.back[:1])
	}
}
