package fabric

import (
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// goodBuffer is a receive buffer's usual size, before one was seen.
const goodBuffer = 1526

// uselessMax is how many buffers of one delivery may go back empty before the
// frames that are left are dropped: a guest that makes bad ones as fast as they
// are looked at must not hold up who sends to it.
const uselessMax = virtio.BurstMax

// scatterMax is how many segments the buffers of one frame may have together:
// as many as DPDK takes. Linux makes 19 for the longest frame; buffers of single
// bytes would cost their sender a thousand times the copy.
const scatterMax = 256

// deliver fills a port's receive queue with the listed frames of the burst, and
// counts those that it could not.
func (w *worker) deliver(to *Port, list []uint8) {
	c := to.conn.Load()
	f := fill{w: w, to: c, rx: c.receive(w.pair), list: list}
	if f.rx == nil {
		to.drops.add(PortDown, len(list))
		return
	}
	f.guarded()
	w.moved += f.bytes
	counts := &to.queues[f.rx.Index()/2]
	counts.outFrames.Add(f.frames)
	counts.outBytes.Add(f.bytes)
}

// fill is the delivery of a list of frames to one receive queue.
type fill struct {
	w       *worker
	to      *conn
	rx      *receiver
	inside  bool    // the gate is ours
	all     bool    // the estimate fell short: take what there is
	useless int     // buffers that went back empty
	list    []uint8 // frames that are left
	round   tally   // copied, and not published yet
	tally           // delivered
}

// tally counts frames and their bytes.
type tally struct{ frames, bytes uint64 }

// guarded runs the delivery. When memory vanishes under it, the receive queue is
// left first; the receiver's fault is the receiver's end and costs the sender
// nothing, any other is the business of who runs the sender's queue.
func (f *fill) guarded() {
	defer func() {
		r := recover()
		f.leave()
		if r == nil {
			return
		}
		fault, ok := memtable.AsFault(r)
		if !ok || fault.Owner != any(f.to.session) {
			panic(r)
		}
		f.to.port.drops.add(Vanished, len(f.list)+int(f.round.frames))
		f.to.session.Fail(fault)
	}()
	why, ok := f.enter()
	for ok && len(f.list) > 0 {
		switch {
		case f.useless > uselessMax:
			why, ok = NoBuffers, false
		case !f.some():
			why, ok = f.wait()
		}
	}
	f.to.port.drops.add(why, len(f.list))
}

// some takes what buffers the frames need, fills and publishes them; false says
// that the ring has too few to go on.
func (f *fill) some() bool {
	b, ask := &f.w.rx, f.estimate()
	n := f.rx.Take(b, virtio.Writable, ask)
	if n > 0 {
		f.rx.buffer = max(1, uint64(b.Elem[0].Total))
		f.rx.setEmpty(false)
	}
	used, enough := 0, n > 0
	for enough && len(f.list) > 0 && used < n {
		if b.Elem[used].Segs == 0 { // bad: it goes back empty
			used++
			f.useless++
			continue
		}
		used, enough = f.one(used, int(f.list[0]))
	}
	f.rx.Untake(b, used)
	f.rx.Put(b)
	if f.rx.Publish() {
		f.rx.Call()
	}
	f.frames += f.round.frames
	f.bytes += f.round.bytes
	f.round = tally{}
	again := !enough && n == ask && !f.all
	f.all = again && used == 0
	return used > 0 || enough || again
}

// estimate says how many buffers the frames that are left will need.
func (f *fill) estimate() int {
	if f.all {
		return virtio.BurstMax
	}
	if !f.rx.View().Features.Has(vnet.FeatureMrgRxbuf) {
		return len(f.list)
	}
	n := 0
	for _, i := range f.list {
		n += int((uint64(f.w.frames[i].size) + vnet.MaxHeader + f.rx.buffer - 1) / f.rx.buffer)
	}
	return min(n, virtio.BurstMax)
}

// one delivers frame i into the buffers from at on, or drops it; false says
// that there are too few of them.
func (f *fill) one(at, i int) (next int, enough bool) {
	m, features := &f.w.frames[i], f.rx.View().Features
	merge := features.Has(vnet.FeatureMrgRxbuf)
	h, verdict := m.hdr.Deliver(features, m.v6)
	if verdict != vnet.OK {
		return at, f.drop(Reason(verdict))
	}
	hdrLen := vnet.HeaderLen(features)
	need := uint32(hdrLen) + m.size
	k, room, segs := f.count(at, need, merge)
	switch {
	case segs > scatterMax:
		f.useless += max(k, segs/scatterMax)
		return at + k, true
	case room >= need:
	case !merge, k >= virtio.BurstMax:
		return at, f.drop(TooSmall)
	case at+k < f.w.rx.N: // a frame cannot be merged over a bad buffer
		f.useless += k
		return at + k, true
	default:
		return at, false
	}
	h.NumBuffers = uint16(k)
	var buf [vnet.MaxHeader + ethLen]byte
	w := writer{b: &f.w.rx, elem: at}
	w.write(m.prefix(&buf, h, hdrLen))
	w.writeFrom(&f.w.tx, i, m.skip+ethLen, m.size-ethLen)
	f.round.frames++
	f.round.bytes += uint64(m.size)
	f.list = f.list[1:]
	return at + k, true
}

// count says how many buffers from at on hold need bytes, how much room they
// have, and in how many segments; without MRG_RXBUF a frame has one.
func (f *fill) count(at int, need uint32, merge bool) (k int, room uint32, segs int) {
	for b := &f.w.rx; at+k < b.N && b.Elem[at+k].Segs != 0 && room < need && (merge || k == 0); k++ {
		room += min(b.Elem[at+k].Total, need)
		segs += int(b.Elem[at+k].Segs)
	}
	return k, room, segs
}

// drop counts the frame at the head of the list and goes on with the next.
func (f *fill) drop(why Reason) bool {
	f.to.port.drops.add(why, 1)
	f.list = f.list[1:]
	return true
}
