package pktgen

import "sync"

// window is how far behind the newest of its flow a frame may be and still be
// told apart from one that came before.
const window = 4096

// tally is what checking found.
type tally struct {
	unique    uint64 // frames of ours, each counted once
	lost      uint64 // gaps in flows that nothing has filled
	duplicate uint64
	reordered uint64 // came after one that was sent later
	damaged   uint64 // a wrong length, or wrong contents
	foreign   uint64 // not ours, or of another run
}

// flow is what was seen of one.
type flow struct {
	next uint64              // after the newest
	seen [window / 64]uint64 // the last ones before it, by number
	run  uint16
	old  bool // one was seen
}

// tracker knows all flows, whichever queue they come through.
type tracker struct {
	mu     sync.Mutex
	run    uint16
	any    bool // runs of others count too, each from the first frame that came
	blocks [mostFlows / 64]*[64]flow
	tally
}

// note counts a frame. The lock is held: it is taken once for each burst.
func (t *tracker) note(m mark) {
	if !t.any && m.run != t.run {
		t.foreign++
		return
	}
	block := t.blocks[m.flow/64]
	if block == nil {
		block = new([64]flow)
		t.blocks[m.flow/64] = block
	}
	f := &block[m.flow%64]
	if t.any && (!f.old || f.run != m.run) {
		*f = flow{next: m.seq, run: m.run, old: true}
	}
	switch {
	case m.seq >= f.next:
		t.lost += m.seq - f.next
		f.skip(m.seq)
		f.set(m.seq)
		f.next = m.seq + 1
		t.unique++
	case f.next-m.seq > window || f.has(m.seq):
		t.duplicate++
	default:
		f.set(m.seq)
		t.unique++
		t.reordered++
		t.lost -= min(t.lost, 1)
	}
}

func (f *flow) has(seq uint64) bool { return f.seen[seq/64%(window/64)]>>(seq%64)&1 == 1 }
func (f *flow) set(seq uint64)      { f.seen[seq/64%(window/64)] |= 1 << (seq % 64) }

// skip forgets what was seen a window ago of the numbers from next to seq.
func (f *flow) skip(seq uint64) {
	if seq-f.next >= window {
		f.seen = [window / 64]uint64{}
		return
	}
	for i := range seq - f.next + 1 { // seq may be the last number there is
		n := f.next + i
		f.seen[n/64%(window/64)] &^= 1 << (n % 64)
	}
}
