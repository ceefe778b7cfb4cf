package memfd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/vhostd/vhostd/memtable"
)

// MaxZones is how many zones an arena may have.
const MaxZones = 2560

// Zone is a named piece of shared memory, for rings and tables that are found
// by name. It is zero when it is made. Its fields do not change.
type Zone struct {
	Name string
	VA   memtable.VA
	Addr memtable.IOVA // of its first byte, and of the others if it is contiguous; NoIOVA: it has none
	Size uint64        // bytes, a multiple of 64

	arena *Arena
	store *store
	token uint64
}

// ZoneOptions says what memory a zone takes.
type ZoneOptions struct {
	Size       uint64 // bytes
	Align      uint64 // of its address here, and up to the page size for devices too: a power of two; 0: 64
	Bound      uint64 // a power of two, Size or more, no multiple of which lies inside; 0: none
	Contiguous bool   // for devices, as a whole
	Page       uint64 // page size in bytes, and no other; 0: by the arena's preference
	Hint       uint64 // page size in bytes to try before others, if Page is 0; 0: none
	Node       int    // NUMA node, or AnyNode; in an arena without nodes it does not matter

	// Heap is where the zone comes from: then Page, Hint and Node do not
	// matter. nil: from the arena.
	Heap *ExternalHeap

	// Biggest takes the biggest piece there is, of Size or more, of what
	// zones have already: the arena does not grow for it, and Hint does not
	// matter.
	Biggest bool
}

// zones are the zones of an arena, and where they get memory.
type zones struct {
	mu     sync.Mutex
	of     map[string]*Zone // nil: is being made
	strict *store           // has contiguous memory; nil: there never were zones
	loose  *store           // has the other; where everything is contiguous, the same
	closed bool
}

// Zone makes a zone of a name that no other zone of the arena has. If the arena
// has to grow, Zone waits for its mirrors, and errors are those of growing.
func (a *Arena) Zone(ctx context.Context, name string, o ZoneOptions) (*Zone, error) {
	r := request{size: o.Size, align: o.Align, bound: o.Bound, page: o.Page, hint: o.Hint, node: a.nodeOf(o.Node)}
	if o.Biggest {
		r.size = max(r.size, quantum)
	}
	if err := cmp.Or(r.check(), a.owns(o.Heap)); err != nil {
		return nil, fmt.Errorf("zone %q: %w", name, err)
	}
	z := &a.users.zones
	s, err := z.claim(a, name, o.Contiguous)
	if err != nil {
		return nil, fmt.Errorf("zone %q: %w", name, err)
	}
	if o.Heap != nil {
		s = o.Heap.store
		r.page, r.hint, r.node, r.known, r.whole = 0, 0, AnyNode, o.Contiguous, o.Contiguous
	}
	made, err := a.makeZone(ctx, s, name, r, o.Biggest)
	z.mu.Lock()
	defer z.mu.Unlock()
	if err != nil {
		delete(z.of, name)
		return nil, fmt.Errorf("zone %q: %w", name, err)
	}
	z.of[name] = made
	return made, nil
}

// claim reserves a name, and gives the store that is to serve it.
func (z *zones) claim(a *Arena, name string, contiguous bool) (*store, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if err := named(name); err != nil {
		return nil, err
	}
	if z.closed {
		return nil, ErrClosed
	}
	if _, ok := z.of[name]; ok {
		return nil, ErrExists
	}
	if len(z.of) >= MaxZones {
		return nil, &ShortageError{What: "room for zones (their number)", Node: AnyNode,
			Want: uint64(len(z.of)) + 1, Have: MaxZones, Advice: "free some, or use a heap"}
	}
	if z.strict == nil {
		z.of = make(map[string]*Zone)
		z.strict = newStore(a, "zones", true, true, a.o.Linger)
		z.loose = z.strict
		if a.o.IOVA == IOVAAsPA {
			z.loose = newStore(a, "scattered zones", true, false, a.o.Linger)
		}
	}
	z.of[name] = nil
	if contiguous {
		return z.strict, nil
	}
	return z.loose, nil
}

// makeZone takes the memory.
func (a *Arena) makeZone(ctx context.Context, s *store, name string, r request, biggest bool) (*Zone, error) {
	var l loan
	var err error
	if biggest {
		l, err = s.takeBiggest(r)
	} else {
		l, err = s.take(ctx, r)
	}
	if err != nil {
		return nil, err
	}
	if err := l.clear(); err != nil {
		return nil, errors.Join(err, s.give(l.va, l.token))
	}
	made := &Zone{Name: name, VA: l.va, Addr: memtable.IOVA(l.iova), Size: l.size, arena: a, store: s, token: l.token}
	if !s.flat {
		made.Addr = s.address(l.va)
	}
	return made, nil
}

// takeBiggest lends the biggest piece that serves r, whose size is the least.
func (s *store) takeBiggest(r request) (loan, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.chunks.greatest(&r)
	if have < r.size {
		return loan{}, &ShortageError{What: "memory in one piece that zones have already", Node: r.node,
			Want: r.size, Have: have, Advice: "ask for a size: then the arena grows"}
	}
	r.size = have
	return s.loan(s.chunks.take(&r)), nil
}

// Free gives the memory back, and the name. The error wraps ErrFreed if that has
// been done before.
func (z *Zone) Free() error {
	all := &z.arena.users.zones
	all.mu.Lock()
	defer all.mu.Unlock()
	if err := z.store.give(z.VA, z.token); err != nil {
		return fmt.Errorf("zone %q: %w", z.Name, err)
	}
	delete(all.of, z.Name)
	return nil
}

// FindZone gives the zone of a name; nil if there is none.
func (a *Arena) FindZone(name string) *Zone {
	z := &a.users.zones
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.of[name]
}

// Zones gives all zones there are, by name.
func (a *Arena) Zones() []*Zone {
	z := &a.users.zones
	z.mu.Lock()
	defer z.mu.Unlock()
	var all []*Zone
	for _, name := range slices.Sorted(maps.Keys(z.of)) {
		if z.of[name] != nil {
			all = append(all, z.of[name])
		}
	}
	return all
}

// close gives back what zones had, if there are none. There will be none any
// more.
func (z *zones) close() (err error) {
	z.mu.Lock()
	z.closed = true
	both := []*store{z.strict, z.loose}
	z.mu.Unlock()
	for _, s := range slices.Compact(both) {
		if s != nil {
			_, fail := s.close()
			err = errors.Join(err, fail)
		}
	}
	return err
}
