package fabric

import (
	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// A turn is what a worker does before it passes a boundary of its domain, for
// which every front-end of the switch waits that changes anything.
const (
	burst      = 32 // chains taken at once
	turnBursts = 8
	turnBytes  = 16 << 20 // copied, but for the last burst: a flood has many copies
)

// worker forwards what one transmit queue brings. All it needs it was made with.
type worker struct {
	sw     *Switch
	from   *conn
	pair   int
	now    uint32
	moved  uint64           // bytes copied in this turn
	reader *memtable.Reader // of the section this turn is in

	tx     virtio.Burst
	frames [virtio.BurstMax]frame
	rx     virtio.Burst

	groups []group // by slot of the destination
	busy   []int   // slots whose group is not empty
	pause  patience
}

// group lists the frames of a burst that go to one port.
type group struct {
	n    int
	list [virtio.BurstMax]uint8
}

func newWorker(c *conn, pair int) *worker {
	return &worker{sw: c.port.sw, from: c, pair: pair}
}

// forward is a turn at a transmit queue.
func (w *worker) forward(q *virtio.Queue) error {
	w.begin(q.Reader())
	for n := 0; n < turnBursts && w.moved < turnBytes; n++ {
		if q.Take(&w.tx, virtio.Readable, burst) == 0 {
			break
		}
		w.sort(q.View().Features)
		w.send()
		q.Put(&w.tx)
		if q.Publish() {
			q.Call()
		}
	}
	return q.Err()
}

// discard is a turn at a transmit queue that is not enabled.
func (w *worker) discard(q *virtio.Queue) error {
	for range turnBursts {
		n := q.Take(&w.tx, virtio.Readable, burst)
		if n == 0 {
			break
		}
		w.from.port.drops.add(Disabled, n)
		q.Put(&w.tx)
		if q.Publish() {
			q.Call()
		}
	}
	return q.Err()
}

// begin makes the worker's scratch fit the switch.
func (w *worker) begin(r *memtable.Reader) {
	w.reader = r
	w.now, w.moved = w.sw.clock(), 0
	w.pause.reset()
	if ports := *w.sw.ports.Load(); len(w.groups) < len(ports) {
		w.groups = make([]group, len(ports))
	}
	w.clear()
}

func (w *worker) clear() {
	for _, slot := range w.busy {
		w.groups[slot].n = 0
	}
	w.busy = w.busy[:0]
}

// sort decides on each frame of the burst, from a sender with features f, and
// lists it with the ports it goes to.
func (w *worker) sort(f virtio.Features) {
	port := w.from.port
	frames, bytes := 0, uint64(0)
	for i := range w.tx.N {
		if w.tx.Elem[i].Segs == 0 { // bad: it goes back empty
			continue
		}
		m := &w.frames[i]
		if why, ok := m.read(&w.tx, i, f); !ok {
			port.drops.add(why, 1)
			continue
		}
		frames, bytes = frames+1, bytes+uint64(m.size)
		w.sw.fdb.learn(m.src, port.slot, w.now)
		w.route(i, m.dst)
	}
	c := &port.queues[w.pair]
	c.inFrames.Add(uint64(frames))
	c.inBytes.Add(bytes)
}

// route lists frame i with its destination. Group addresses, those of link
// protocols (01:80:c2:…) among them, and unknown ones go to all other ports.
func (w *worker) route(i int, dst mac) {
	if !dst.group() {
		if slot, ok := w.sw.fdb.lookup(dst, w.now); ok && slot < len(w.groups) {
			if slot == w.from.port.slot {
				w.from.port.drops.add(Hairpin, 1)
				return
			}
			w.list(slot, i)
			return
		}
	}
	for slot, p := range (*w.sw.ports.Load())[:len(w.groups)] {
		if slot != w.from.port.slot && p.conn.Load().receive(w.pair) != nil {
			w.list(slot, i)
		}
	}
}

func (w *worker) list(slot, i int) {
	g := &w.groups[slot]
	if g.n == 0 {
		w.busy = append(w.busy, slot)
	}
	g.list[g.n] = uint8(i)
	g.n++
}

// send delivers the burst's groups.
func (w *worker) send() {
	ports := *w.sw.ports.Load()
	for _, slot := range w.busy {
		g := &w.groups[slot]
		w.deliver(ports[slot], g.list[:g.n])
	}
	w.clear()
}

// prefix writes what comes before the frame's bytes at the sender: the
// receiver's virtio-net header and the Ethernet header that was decided on.
func (m *frame) prefix(buf *[vnet.MaxHeader + ethLen]byte, h vnet.Header, hdrLen int) []byte {
	h.Encode((*[vnet.MaxHeader]byte)(buf[:]))
	return append(buf[:hdrLen], m.head[:]...)
}
