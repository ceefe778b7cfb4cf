package virtiotest

import "sync/atomic"

// Bell is a doorbell that counts. It never blocks.
type Bell struct {
	rings atomic.Int64
	c     chan struct{}
}

// NewBell makes a doorbell.
func NewBell() *Bell { return &Bell{c: make(chan struct{}, 1)} }

// Ring implements [virtio.Doorbell].
func (b *Bell) Ring() {
	b.rings.Add(1)
	select {
	case b.c <- struct{}{}:
	default:
	}
}

// Rings is how often it rang.
func (b *Bell) Rings() int { return int(b.rings.Load()) }

// C has a value when the bell rang since the last receive, like an eventfd that
// was read.
func (b *Bell) C() <-chan struct{} { return b.c }
