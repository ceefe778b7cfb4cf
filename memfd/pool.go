package memfd

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Pool lends shared buffers of one size, to workers that take and give many at
// a time and never wait: each through a [Cache] of its own. Only Grow and Shrink
// take memory from the arena and give it back. Its methods may be called from
// any goroutine.
type Pool struct {
	name   string
	from   supply
	leave  func() // the arena
	o      PoolOptions
	stride uint64 // from one buffer to the next, bytes
	align  uint64

	turn chan struct{} // held by who grows, shrinks or closes

	slabs atomic.Pointer[[]*slab] // by slot; nil: none. Changed under mu

	// mu comes after Cache.mu.
	mu      sync.Mutex
	order   []*slab // by address: the lowest are used first
	first   [2]int  // no slab of order before it has free buffers: ordinary ones, resident ones
	caches  []*Cache
	refused uint64 // by caches that are closed
	seed    uint32 // where the gens of the next slab begin
	closed  bool
	home    chan struct{} // a buffer of a slab that retires has come back
}

// PoolOptions says what buffers a pool has.
type PoolOptions struct {
	Size     uint32        // of a buffer, bytes
	Count    int           // that there are from the start, at least
	Align    uint32        // of their addresses, a power of two; 0: 64, which is the least
	Straddle bool          // buffers may cross the border of pages; they are contiguous in any case
	Page     uint64        // page size in bytes, and no other; 0: by the arena's preference
	Hint     uint64        // page size in bytes to try before others, if Page is 0; 0: none
	Node     int           // NUMA node, or AnyNode; in an arena without nodes it does not matter
	Heap     *ExternalHeap // where the buffers lie, whose memory has addresses for devices; nil: in memory of the arena
	Cache    int           // buffers that a Cache holds at most; 0: 256

	// Resident is how many of Count are never given back by Shrink. Buffers
	// in receive rings return only with traffic, so who fills such a ring
	// takes them from a ResidentCache, and nobody waits for them.
	Resident int
}

const defaultCache = 256

// Pool makes a pool of a name that no other pool of the arena has, and its first
// buffers. Errors are those of growing.
func (a *Arena) Pool(ctx context.Context, name string, o PoolOptions) (*Pool, error) {
	o.Node = a.nodeOf(o.Node)
	if err := a.owns(o.Heap); err != nil {
		return nil, fmt.Errorf("pool %q: %w", name, err)
	}
	p, err := newPool(a.supplyOf(o.Heap), name, o)
	if err != nil {
		return nil, err
	}
	p.leave = func() { a.users.pools.leave(name, p) }
	if err := a.users.pools.enter(a, "pool", name, p); err != nil {
		return nil, err
	}
	if err := p.grow(ctx, o.Count, o.Resident); err != nil {
		p.leave()
		return nil, err
	}
	return p, nil
}

// newPool makes a pool without buffers.
func newPool(from supply, name string, o PoolOptions) (*Pool, error) {
	align := max(uint64(o.Align), quantum)
	o.Cache = cmp.Or(o.Cache, defaultCache)
	var err error
	switch {
	case o.Size == 0 || o.Align&(o.Align-1) != 0:
		err = fmt.Errorf("buffers of %d bytes aligned to %d: %w", o.Size, o.Align, ErrSize)
	case o.Count < 0 || o.Cache < 0 || o.Cache > maxPlaces || o.Resident < 0 || o.Resident > o.Count:
		err = fmt.Errorf("%d buffers, %d of them resident, %d in a cache: %w", o.Count, o.Resident, o.Cache, ErrSize)
	}
	if err != nil {
		return nil, fmt.Errorf("pool %q: %w", name, err)
	}
	p := &Pool{name: name, from: from, o: o, align: align, stride: up(uint64(o.Size), align),
		turn: make(chan struct{}, 1), home: make(chan struct{}, 1)}
	p.slabs.Store(new([]*slab))
	return p, nil
}

// Name is what the pool is called.
func (p *Pool) Name() string { return p.name }

// Pools gives all pools there are, by name.
func (a *Arena) Pools() []*Pool { return a.users.pools.all() }

// lock takes the turn to change which slabs there are.
func (p *Pool) lock(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("pool %q: waiting for its turn to grow or shrink: %w", p.name, ctx.Err())
	}
}

func (p *Pool) unlock() { <-p.turn }

// PoolStats are numbers of a pool. While workers use it, they may be of slightly
// different moments.
type PoolStats struct {
	Count    int    `json:"count"`    // buffers there are
	Resident int    `json:"resident"` // of them, those that Shrink leaves
	Free     int    `json:"free"`     // in the pool itself
	Cached   int    `json:"cached"`   // in caches
	Lent     int    `json:"lent"`     // with somebody
	Refused  uint64 `json:"refused"`  // given back although they were not lent, ever
	Mapped   uint64 `json:"mapped"`   // bytes the pool has of the arena
}

// Stats tells how the pool does.
func (p *Pool) Stats() PoolStats {
	var st PoolStats
	p.mu.Lock()
	caches := slices.Clone(p.caches)
	for _, s := range p.order {
		st.Count += len(s.places)
		st.Free += len(s.stack)
		st.Mapped += s.size
		if s.resident {
			st.Resident += len(s.places)
		}
	}
	st.Refused = p.refused
	p.mu.Unlock()
	for _, c := range caches {
		n, refused := c.held()
		st.Cached += n
		st.Refused += refused
	}
	st.Lent = max(0, st.Count-st.Free-st.Cached)
	return st
}

// fetch moves free buffers of one sort to the end of ids, as far as there is
// room and they last.
func (p *Pool) fetch(ids []uint64, n int, resident bool) []uint64 {
	sort := sortOf(resident)
	for i := p.first[sort]; i < len(p.order) && n > 0; i++ {
		s := p.order[i]
		if s.resident == resident && !s.retiring.Load() {
			k := min(n, len(s.stack))
			for _, at := range s.stack[len(s.stack)-k:] {
				ids = append(ids, id(s.slot, at))
			}
			s.stack = s.stack[:len(s.stack)-k]
			n -= k
			if len(s.stack) > 0 {
				break
			}
		}
		p.first[sort] = i
	}
	return ids
}

// push takes buffers into the stacks of their slabs. mu is held.
func (p *Pool) push(ids []uint64) {
	slabs := *p.slabs.Load()
	for _, id := range ids {
		s := slabs[slotOf(id)]
		s.stack = append(s.stack, uint32(placeOf(id)))
		if s.retiring.Load() {
			select {
			case p.home <- struct{}{}:
			default:
			}
		}
		sort := sortOf(s.resident)
		p.first[sort] = min(p.first[sort], s.rank)
	}
}

// sortOf gives the index for ordinary or resident buffers.
func sortOf(resident bool) int {
	if resident {
		return 1
	}
	return 0
}
