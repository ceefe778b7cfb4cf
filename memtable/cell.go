package memtable

import "sync/atomic"

// Cell publishes snapshots of a T to workers. What Swap gives back may still be
// in use by readers that are inside; it is free after [Domain.Wait]. The zero
// Cell holds nil.
type Cell[T any] struct{ p atomic.Pointer[T] }

// Load gives the snapshot to a worker. The reader is the proof: it must be
// inside, and the snapshot must not be used after its next Pass or Leave.
func (c *Cell[T]) Load(*Reader) *T { return c.p.Load() }

// Current gives the snapshot to control, which swaps it and so needs no proof.
func (c *Cell[T]) Current() *T { return c.p.Load() }

// Swap publishes v and gives what was published before.
func (c *Cell[T]) Swap(v *T) *T { return c.p.Swap(v) }
