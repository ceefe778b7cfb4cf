package memfd

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// growth asks for memory.
type growth struct {
	owner      string // for people
	size       uint64 // bytes, rounded up to whole extents
	page       uint64 // page size in bytes; 0: by preference
	node       int    // AnyNode: any
	shared     bool   // with all mirrors
	contiguous bool   // in IOVA
	minimum    bool   // it is the operator's own wish: validators are not asked
}

// block is a run of whole extents, contiguous here.
type block struct {
	VA     memtable.VA
	Addr   memtable.IOVA // of its first byte
	Size   uint64        // bytes
	Page   uint64        // bytes
	Node   int
	Extent uint64 // bytes: any part of whole extents can be released

	lot *External // what it is; nil: memory of the arena
}

// grow maps new memory. It reads zero. A *ShortageError or *RefusedError leaves
// everything as it was. No lock is held over validators, mirrors and watchers.
func (a *Arena) grow(ctx context.Context, g growth) (*block, error) {
	if g.size == 0 {
		return nil, errors.New("no memory was asked for")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var all []error
	for _, c := range a.candidates(g) {
		p, err := a.growIn(ctx, c, g)
		if err == nil {
			b := &block{VA: p.va(), Size: p.size(), Page: c.page, Node: c.node, Extent: c.unit}
			b.Addr, _, _ = a.iova(b.VA)
			return b, nil
		}
		all = append(all, err)
		if !elsewhere(err) {
			break
		}
	}
	if all == nil {
		return nil, &ShortageError{What: "memory of such pages", Node: g.node, Want: g.size,
			Advice: "name the page size and the node in Options"}
	}
	return nil, errors.Join(all...)
}

// elsewhere tells whether what is not to be had in one class may be in another:
// what is short, on the wrong node, or out of a device's reach.
func elsewhere(err error) bool {
	_, short := errors.AsType[*ShortageError](err)
	_, far := errors.AsType[*MaskError](err)
	_, astray := errors.AsType[*NodeError](err)
	return short || far || astray
}

// candidates gives the classes that may serve g: in order of preference, except
// that no huge page is taken for what is much smaller than it, if another does.
// Of any node means at home first, and then wherever there is some.
func (a *Arena) candidates(g growth) []*class {
	var fit []*class
	for _, c := range a.classes {
		if (g.page == 0 || g.page == c.page) && (g.node == AnyNode || g.node == c.node) {
			fit = append(fit, c)
		}
	}
	enough := max(g.size, defaultExtent)
	over := func(c *class) uint64 {
		if c.page <= enough {
			return 0
		}
		return c.page
	}
	slices.SortStableFunc(fit, func(x, y *class) int { return cmp.Compare(over(x), over(y)) })
	if home := a.home(); g.node == AnyNode && home != AnyNode {
		away := func(c *class) int {
			if c.node == home || c.node == AnyNode {
				return 0
			}
			return 1
		}
		slices.SortStableFunc(fit, func(x, y *class) int { return cmp.Compare(away(x), away(y)) })
	}
	return fit
}

// growIn takes the memory from one class.
func (a *Arena) growIn(ctx context.Context, c *class, g growth) (part, error) {
	p, would, err := a.claim(c, g)
	if err != nil {
		return part{}, err
	}
	// What was idle has been counted before, and nobody needs to agree again.
	if would.Size > 0 && !g.minimum {
		err = a.validate(would)
	}
	if err == nil {
		err = a.populate(p)
	}
	if err != nil {
		a.locked(func() { a.unclaim(p) })
		return part{}, err
	}
	if err = a.resolve(p, g.contiguous); err != nil {
		a.locked(func() { a.move(p, leaving) })
		return part{}, errors.Join(err, a.depart(context.WithoutCancel(ctx), p))
	}
	return p, a.arrive(ctx, p, g.shared)
}

// arrive takes p into use: look-ups find it, mirrors that are to have it have
// accepted, and watchers have heard. After an error p is on its way back.
func (a *Arena) arrive(ctx context.Context, p part, shared bool) error {
	err := a.list(p)
	if err == nil {
		err = a.announce(ctx, p, shared)
	}
	if err != nil {
		a.locked(func() { a.move(p, leaving) })
		return errors.Join(err, a.depart(context.WithoutCancel(ctx), p))
	}
	var e []memtable.Extent
	a.locked(func() {
		a.move(p, live)
		for i := range p.slots() {
			p.slots()[i].told = true
		}
		e = p.extents()
	})
	a.tell(Event{Kind: Allocated, Extents: e})
	return nil
}

// claim takes slots for g, if the limit allows, and tells what it would grow to.
func (a *Arena) claim(c *class, g growth) (p part, would Growth, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return p, would, ErrClosed
	}
	n := (g.size-1)/c.unit + 1
	ok := n <= uint64(len(c.slots))
	if ok {
		p, ok = c.find(int(n))
	}
	if !ok {
		_, longest := c.search(len(c.slots)+1, c.grows)
		short := &ShortageError{What: "address space in one piece", Node: c.node, Want: g.size,
			Have: uint64(longest) * c.unit, Advice: "set Options.Space to more, or use larger pages"}
		if a.o.Legacy {
			short.What, short.Err = "memory in one piece", ErrLegacy
			short.Advice = "map more: set Options.Minimum to more, or reserve more huge pages"
		}
		return p, would, short
	}
	u := a.usage[c.node]
	would = Growth{Owner: g.owner, Node: c.node, Page: c.page, Shared: g.shared}
	for _, s := range p.slots() {
		if s.state == free {
			would.Size += c.unit
		}
	}
	if err := a.withinLimit(c.node, u.mapped(), would.Size); err != nil {
		return p, would, err
	}
	if err := a.withinPageLimit(c, would.Size); err != nil {
		return p, would, err
	}
	would.Total = u.mapped() + would.Size
	a.move(p, arriving)
	for i := range p.slots() {
		s := &c.slots[p.first+i]
		s.owner, s.shared = g.owner, g.shared
		s.note()
	}
	return p, would, nil
}

// unclaim puts slots back that nobody was told of. mu is held.
func (a *Arena) unclaim(p part) {
	for i := range p.n {
		switch s := &p.c.slots[p.first+i]; {
		case s.state != arriving: // it could not be put back
		case s.mapped:
			a.move(p.one(i), idle)
		default:
			a.move(p.one(i), free)
		}
	}
}
