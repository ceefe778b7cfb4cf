package memfd

// Small chunks that come back lie on a shelf for a while, as they were cut, and
// go out again to who asks for their size. So who allocates and frees in turns
// neither joins nor cuts. The shelf is cleared when there is nothing else left,
// with each sweep, and before anybody is told how much fits.
const (
	shelfMost = 4 << 10 // bytes of a chunk, at most
	shelfRoom = 64      // chunks of each size, at most
)

// shelf has a list for each size, linked by after.
type shelf struct {
	first [shelfMost/quantum + 1]uint32
	n     [shelfMost/quantum + 1]uint8
	held  int  // chunks in all lists
	due   bool // a sweep is to come for them
}

// shelve puts a chunk that comes back on the shelf, if there is room.
func (s *chunks) shelve(c *chunk, i uint32) bool {
	q := c.size / quantum
	if q >= uint64(len(s.shelf.first)) || s.shelf.n[q] == shelfRoom {
		return false
	}
	c.mood, c.after = shelved, s.shelf.first[q]
	s.shelf.first[q] = i
	s.shelf.n[q]++
	s.shelf.held++
	return true
}

// onShelf gives the chunk that was shelved last, of a size in quanta; 0: there
// is none.
func (s *chunks) onShelf(q uint64) (i uint32) {
	if q >= uint64(len(s.shelf.first)) {
		return 0
	}
	return s.shelf.first[q]
}

// unshelve takes what onShelf gave.
func (s *chunks) unshelve(c *chunk) {
	q := c.size / quantum
	s.shelf.first[q] = c.after
	s.shelf.n[q]--
	s.shelf.held--
}

// clearShelf makes all that lies there vacant, joined with what is around it.
func (s *chunks) clearShelf() {
	if s.shelf.held == 0 {
		return
	}
	for q, i := range s.shelf.first {
		for i != 0 {
			c := &s.all[i]
			from, to, next := c.addr, c.end(), c.after
			s.touch(s.vacate(i), from, to)
			i = next
		}
		s.shelf.first[q], s.shelf.n[q] = 0, 0
	}
	s.shelf.held = 0
}
