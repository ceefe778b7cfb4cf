package memfd

import (
	"slices"
	"sync"

	"github.com/vhostd/vhostd/memtable"
)

// Cache is one worker's way to a pool: it holds some buffers, so that most calls
// meet nobody. It belongs to one goroutine. Its methods do not allocate, and
// never wait for memory, the arena or a mirror.
type Cache struct {
	p        *Pool
	resident bool

	// mu is nobody's but the worker's, except for moments: Shrink takes
	// buffers out of caches whose workers sleep, and Stats counts.
	mu      sync.Mutex
	ids     []uint64 // of free buffers, those on top were used last
	closed  bool
	refused uint64
	_       [quantum]byte // what comes next belongs to another worker
}

// Cache makes a cache. It uses resident buffers only if there are no others.
func (p *Pool) Cache() *Cache { return p.cache(false) }

// ResidentCache makes a cache of resident buffers only (PoolOptions.Resident).
func (p *Pool) ResidentCache() *Cache { return p.cache(true) }

func (p *Pool) cache(resident bool) *Cache {
	c := &Cache{p: p, resident: resident, ids: make([]uint64, 0, max(p.o.Cache, 1))}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.caches = append(p.caches, c)
	return c
}

// Get lends as many buffers as dst has room for, or as there are, and tells how
// many. Len of each is 0. Their contents are what the last holder left.
func (c *Cache) Get(dst []memtable.Buf) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slabs := *c.p.slabs.Load()
	for n < len(dst) {
		if len(c.ids) == 0 {
			if !c.refill() {
				return n
			}
			slabs = *c.p.slabs.Load()
		}
		k := min(len(dst)-n, len(c.ids))
		top := c.ids[len(c.ids)-k:]
		for i, id := range top {
			dst[n+i] = slabs[slotOf(id)].lend(id, c.p.o.Size)
		}
		c.ids = c.ids[:len(c.ids)-k]
		n += k
	}
	return n
}

// refill fetches half of what the cache holds, or what there is.
func (c *Cache) refill() bool {
	if c.closed {
		return false
	}
	p, n := c.p, (cap(c.ids)+1)/2
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.resident {
		c.ids = p.fetch(c.ids, n, false)
	}
	if len(c.ids) == 0 {
		c.ids = p.fetch(c.ids, n, true)
	}
	return len(c.ids) > 0
}

// Put takes buffers back. VA may lie anywhere in the buffer, Len and Addr do not
// matter, and Token is as it was lent. What is not lent, above all what was given
// back before, is refused and counted (PoolStats.Refused).
func (c *Cache) Put(src []memtable.Buf) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slabs := *c.p.slabs.Load()
	for i := range src {
		s, id, ok := c.p.accept(slabs, &src[i])
		if !ok {
			c.refused++
			continue
		}
		if c.closed || s.retiring.Load() || c.resident && !s.resident {
			c.home(id)
			continue
		}
		if len(c.ids) == cap(c.ids) {
			c.flush()
		}
		c.ids = append(c.ids, id)
	}
}

// accept tests that a buffer is lent, and ends that.
func (p *Pool) accept(slabs []*slab, b *memtable.Buf) (s *slab, id uint64, ok bool) {
	id = b.Token & (1<<(placeBits+slotBits) - 1)
	if n := slotOf(id); n < uint64(len(slabs)) {
		s = slabs[n]
	}
	if s == nil || placeOf(id) >= uint64(len(s.places)) {
		return nil, 0, false
	}
	at := &s.places[placeOf(id)]
	off := numberOf(b.VA) - numberOf(s.va) - uint64(at.at)*quantum
	if off >= p.stride || at.gen&1 == 0 || genOf(at.gen) != b.Token>>(placeBits+slotBits) {
		return nil, 0, false
	}
	at.gen++
	return s, id, true
}

// home gives one buffer to the pool.
func (c *Cache) home(id uint64) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.push([]uint64{id})
}

// flush gives the half to the pool that was not used for longest.
func (c *Cache) flush() {
	n := (len(c.ids) + 1) / 2
	c.p.mu.Lock()
	c.p.push(c.ids[:n])
	c.p.mu.Unlock()
	c.ids = c.ids[:copy(c.ids, c.ids[n:])]
}

// evict gives those buffers to the pool whose slab retires.
func (c *Cache) evict() {
	c.mu.Lock()
	defer c.mu.Unlock()
	slabs := *c.p.slabs.Load()
	retiring := func(id uint64) bool { return slabs[slotOf(id)].retiring.Load() }
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	for _, id := range c.ids {
		if retiring(id) {
			c.p.push([]uint64{id})
		}
	}
	c.ids = slices.DeleteFunc(c.ids, retiring)
}

// held tells how many buffers the cache holds, and how many it refused.
func (c *Cache) held() (n int, refused uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ids), c.refused
}

// Close gives the buffers of the cache back. Get lends none any more; Put still
// takes back what is lent.
func (c *Cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.push(c.ids)
	c.ids = nil
	c.p.caches = slices.DeleteFunc(c.p.caches, func(x *Cache) bool { return x == c })
	c.p.refused += c.refused
	c.refused = 0
}
