package virtio

import (
	"io"
	"iter"
)

// iteration is the state of Next and Chains.
type iteration struct {
	b       Burst
	at      int // the chain handed out last
	batches int // taken since Begin
	chain   Chain
}

// Next takes batch chains at once, and no more than batches times in one stay:
// a driver that never stops must not keep a worker inside its section.
const (
	batch   = 32
	batches = 16
)

// Next gives the next chain, or false when there is none for now. The chain
// before it is finished by then: without [Chain.Done] it goes back with length
// 0. Between Begin and End; what is finished is published when a batch is done,
// when Next has no more, and by [Queue.Arm].
func (q *Queue) Next() (*Chain, bool) {
	if q.own == nil {
		q.own = new(iteration)
	}
	it := q.own
	for {
		if it.at++; it.at >= it.b.N {
			q.flush()
			it.at = 0
			if it.batches++; it.batches > batches || q.Take(&it.b, Both, batch) == 0 {
				return nil, false
			}
		}
		if it.b.Elem[it.at].Segs != 0 { // else bad, and counted
			it.chain.reset(&it.b, it.at)
			return &it.chain, true
		}
	}
}

// Chains ranges over the chains that are there, as [Queue.Next] gives them. A
// loop that is left early gives back the chains it has not seen.
func (q *Queue) Chains() iter.Seq[*Chain] {
	return func(yield func(*Chain) bool) {
		for {
			c, ok := q.Next()
			if !ok {
				return
			}
			if !yield(c) {
				q.settle()
				return
			}
		}
	}
}

// settle ends an iteration that was left early: the chain handed out last is
// finished, those after it have not been seen.
func (q *Queue) settle() {
	if q.own != nil && q.own.b.N > 0 {
		q.Untake(&q.own.b, q.own.at+1)
		q.flush()
	}
}

// flush puts and publishes what was finished.
func (q *Queue) flush() {
	q.Put(&q.own.b)
	if q.Publish() {
		q.Call()
	}
}

// Chain is one request: what the driver wrote for the device to read, and the
// room it gave for the answer. It is valid until the next one is asked for.
type Chain struct {
	burst   *Burst
	index   int
	slices  [][]byte
	read    int // Readable is slices[:read]
	wrote   int // by Write
	at, off int // where Read goes on
	wat     int // where Write goes on
	woff    int
}

// reset points the chain at element i of b.
func (c *Chain) reset(b *Burst, i int) {
	c.burst, c.index = b, i
	c.slices = c.slices[:0]
	for k := range int(b.Elem[i].Segs) {
		s := b.Seg(i, k)
		c.slices = append(c.slices, s.VA.Bytes(uint64(s.Len)))
	}
	c.read = b.Readable(i)
	c.wrote, c.at, c.off, c.woff = 0, 0, 0, 0
	c.wat = c.read
}

// Readable gives the pieces that the driver wrote, without a copy. The driver
// may change them at any time: copy what you decide on.
func (c *Chain) Readable() [][]byte { return c.slices[:c.read:c.read] }

// Writable gives the pieces that the driver waits for.
func (c *Chain) Writable() [][]byte { return c.slices[c.read:] }

// Read copies the next readable bytes; at their end it says io.EOF.
func (c *Chain) Read(p []byte) (n int, err error) {
	for n < len(p) && c.at < c.read {
		m := copy(p[n:], c.slices[c.at][c.off:])
		n += m
		if c.off += m; c.off == len(c.slices[c.at]) {
			c.at, c.off = c.at+1, 0
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Write fills the next writable bytes, and counts them: Done(c.Wrote()) is what
// to say in the end. Where there is no room it says io.ErrShortWrite.
func (c *Chain) Write(p []byte) (n int, err error) {
	for n < len(p) && c.wat < len(c.slices) {
		m := copy(c.slices[c.wat][c.woff:], p[n:])
		n += m
		if c.woff += m; c.woff == len(c.slices[c.wat]) {
			c.wat, c.woff = c.wat+1, 0
		}
	}
	c.wrote += n
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

// Wrote is how many bytes Write has written.
func (c *Chain) Wrote() int { return c.wrote }

// Done finishes the chain with n bytes written from the start of its writable
// part (virtio 1.2, 2.7.8). More than there is room for counts as all of it.
func (c *Chain) Done(n int) {
	room := 0
	for _, s := range c.slices[c.read:] {
		room += len(s)
	}
	c.burst.Elem[c.index].Wrote = uint32(max(0, min(n, room)))
}
