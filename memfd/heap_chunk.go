package memfd

// quantum is what sizes and places of chunks are multiples of: a cache line, so
// that two owners never share one. It is also the least alignment.
const quantum = 64

// mood is what a chunk is good for.
type mood uint8

const (
	spare   mood = iota // a record without memory
	vacant              // memory that may be lent
	lent                // memory that is somebody's
	shelved             // memory that may be lent as it is, see shelf
	edge                // no memory: the border of a span, which nothing is joined with
)

// chunk is a stretch of memory that is vacant, or lent as a whole. All that is
// known of memory is known here, outside of it: a peer that writes where it
// likes cannot mislead the allocator. Chunks are numbers, in one slice, and hold
// no pointers: the garbage collector has nothing to do with them.
type chunk struct {
	addr  uint64 // as a number
	size  uint64 // bytes
	dirty uint64 // bytes from addr on that may not be zero; behind them it is as fresh pages are
	iova  uint64 // what devices are told, where that makes sense for the chunks
	prev  uint32 // by address, in one span
	next  uint32
	ahead uint32 // in the list of its bin
	after uint32
	gen   uint32 // counts how often it was lent
	kind  uint16
	mood  mood
}

func (c *chunk) end() uint64 { return c.addr + c.size }

// chunks are the records. Number 0 is nobody.
type chunks struct {
	all   []chunk
	empty uint32 // first of the spare ones, linked by next
	bins  bins
	shelf shelf
	kinds []kind
	spans []span // by address
	lent  int    // how many chunks are
	used  uint64 // bytes in them
	size  uint64 // bytes in all
}

// make gives a record.
func (s *chunks) make(c chunk) uint32 {
	if len(s.all) == 0 {
		s.all = make([]chunk, 1, 64)
	}
	i := s.empty
	if i == 0 {
		s.all = append(s.all, chunk{})
		i = uint32(len(s.all) - 1)
	} else {
		s.empty = s.all[i].next
	}
	c.gen = s.all[i].gen
	s.all[i] = c
	return i
}

// drop takes a record back. Its gen stays, so that old tokens stay old.
func (s *chunks) drop(i uint32) {
	s.all[i] = chunk{gen: s.all[i].gen, next: s.empty}
	s.empty = i
}

// link makes j follow i.
func (s *chunks) link(i, j uint32) { s.all[i].next, s.all[j].prev = j, i }

// split cuts chunk i after n bytes, and gives the rest. Both are in no bin.
func (s *chunks) split(i uint32, n uint64) (rest uint32) {
	c := s.all[i]
	c.gen = 0
	low := min(c.dirty, n)
	high := c
	high.addr, high.size, high.dirty, high.iova = c.addr+n, c.size-n, c.dirty-low, c.iova+n
	rest = s.make(high)
	s.all[i].size, s.all[i].dirty = n, low
	s.link(rest, c.next)
	s.link(i, rest)
	return rest
}

// join makes i and the chunk behind it one. Both are in no bin.
func (s *chunks) join(i uint32) {
	c, j := &s.all[i], s.all[i].next
	d := s.all[j]
	if d.dirty > 0 {
		c.dirty = c.size + d.dirty
	}
	c.size += d.size
	s.link(i, d.next)
	s.drop(j)
}

// vacate makes chunk i vacant, joined with its neighbours, and puts it in its
// bin. It gives the number of the whole.
func (s *chunks) vacate(i uint32) uint32 {
	s.all[i].mood = vacant
	if n := s.all[i].next; s.all[n].mood == vacant {
		s.remove(n)
		s.join(i)
	}
	if p := s.all[i].prev; s.all[p].mood == vacant {
		s.remove(p)
		s.join(p)
		i = p
	}
	s.insert(i)
	return i
}

// take lends memory that serves r; 0: there is none.
func (s *chunks) take(r *request) (i uint32) {
	if i = s.onShelf(r.size / quantum); i != 0 {
		if at, ok := s.fit(&s.all[i], r); ok && at == s.all[i].addr {
			s.unshelve(&s.all[i])
			s.lend(&s.all[i])
			return i
		}
	}
	i = s.carve(r)
	if i == 0 && s.shelf.held > 0 {
		s.clearShelf()
		i = s.carve(r)
	}
	if i != 0 {
		s.lend(&s.all[i])
	}
	return i
}

// lend makes a chunk that is in no list somebody's.
func (s *chunks) lend(c *chunk) {
	c.mood = lent
	c.gen++
	s.lent++
	s.used += c.size
}

// carve cuts what serves r out of a vacant chunk; 0: there is none.
func (s *chunks) carve(r *request) (i uint32) {
	i, at := s.find(r)
	if i == 0 {
		return 0
	}
	s.remove(i)
	if lead := at - s.all[i].addr; lead > 0 {
		whole := i
		i = s.split(whole, lead)
		s.insert(whole)
	}
	s.trim(i, r.size)
	return i
}

// trim leaves size bytes to chunk i, which is in no bin, and makes the rest
// vacant. What is behind chunk i must not be.
func (s *chunks) trim(i uint32, size uint64) {
	if s.all[i].size > size {
		rest := s.split(i, size)
		s.all[rest].mood = vacant
		s.insert(rest)
	}
}

// give takes back what was lent. extents tells that whole extents have become
// vacant, or may when the shelf is cleared: a sweep is to come.
func (s *chunks) give(i uint32) (extents bool) {
	c := &s.all[i]
	from, to := c.addr, c.end()
	c.dirty = c.size
	s.lent--
	s.used -= c.size
	if s.shelve(c, i) {
		extents = !s.shelf.due
		s.shelf.due = true
		return extents
	}
	return s.touch(s.vacate(i), from, to)
}

// resize changes the size of a chunk that is lent, where it is; ok is false if
// the memory behind it is not vacant, or too little.
func (s *chunks) resize(i uint32, size uint64) (ok, extents bool) {
	old := s.all[i].size
	if size > old && s.all[s.all[i].next].mood == shelved {
		s.clearShelf() // so there may be room
	}
	next := s.all[i].next
	room := old
	if s.all[next].mood == vacant {
		room += s.all[next].size
	}
	if size > room {
		return false, false
	}
	s.all[i].dirty = old
	if room > old {
		s.remove(next)
		s.join(i)
	}
	s.trim(i, size)
	s.all[i].gen++ // the old token is spent
	s.used += size - old
	if size < old {
		extents = s.touch(s.all[i].next, s.all[i].end(), s.all[i].addr+old)
	}
	return true, extents
}
