package memfd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/vhostd/vhostd/memtable"
)

// Arena is the supply of memory: address space that is reserved once, and
// memory that is mapped into it and given back at run time. Its methods may be
// called from any goroutine.
type Arena struct {
	o       Options
	k       kernel
	classes []*class // in order of preference
	users   users
	outside outside

	// closing is held over Close, by one at a time. It comes before all others.
	closing sync.Mutex

	// table has what is mapped, by IOVA. listing is held over its changes.
	table   memtable.Cell[memtable.Table[memtable.IOVA]]
	listing sync.Mutex

	// mu guards the slots of all classes and what follows. It is never held
	// over a system call that takes long, nor over anybody else's code.
	mu         sync.Mutex
	usage      map[int]*usage // by node
	followers  []*follower
	validators []*validator
	watchers   []*watcher
	stale      []*memtable.Mapping // replaced, and maybe still looked at
	answers    uint64              // that resolve noted
	closed     bool
}

// indexBytes bounds the index of look-ups. All memory in it is ours, so there is
// no stranger to be careful of: 64 MiB index eight million pages, whatever their
// size, that lie side by side, and a million that are scattered.
const indexBytes = 64 << 20

// New makes an arena. It reserves address space, and maps only the minimum.
func New(o Options) (*Arena, error) { return newArena(linux{}, o) }

func newArena(k kernel, o Options) (*Arena, error) {
	huge := hugeSizes(k)
	o, err := o.fill(huge)
	if err != nil {
		return nil, err
	}
	a := &Arena{o: o, k: k, usage: make(map[int]*usage)}
	empty, err := memtable.New[memtable.IOVA](nil, memtable.Options{IndexBytes: indexBytes})
	if err != nil {
		return nil, err
	}
	a.table.Swap(empty)
	for _, node := range o.Nodes {
		a.usage[node] = new(usage)
	}
	if o.Legacy {
		err = a.furnishAll()
	} else {
		err = a.reserveAll()
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	a.register()
	return a, nil
}

// reserveAll makes the classes, and maps the minimum.
func (a *Arena) reserveAll() error {
	base := a.o.Base
	for _, page := range a.o.Pages {
		for _, node := range a.o.Nodes {
			c, err := newClass(a.k, &a.o, base, page, node, page != uint64(os.Getpagesize()))
			if err != nil {
				return err
			}
			base = a.add(c, base)
		}
	}
	for node, size := range a.o.Minimum {
		if err := a.stock(node, size); err != nil {
			a.locked(a.forgetMinimum)
			return fmt.Errorf("the minimum of node %d: %w", node, err)
		}
	}
	return nil
}

// add makes c one of the classes, and gives the base of the next one.
func (a *Arena) add(c *class, base uint64) (next uint64) {
	a.classes = append(a.classes, c)
	c.count = a.usage[c.node]
	c.count[free] += c.all().size()
	if base == 0 {
		return 0
	}
	return c.first + uint64(len(c.mem))
}

// stock maps the minimum of a node. It is nobody's until it is asked for.
func (a *Arena) stock(node int, size uint64) error {
	if size == 0 {
		return nil
	}
	b, err := a.grow(context.Background(), growth{owner: "minimum", size: size, node: node, minimum: true})
	if err != nil {
		return err
	}
	a.locked(func() {
		p, _ := a.part(b.VA, b.Size)
		a.move(p, idle)
	})
	return nil
}

// forgetMinimum lets the minimum be given back. mu is held.
func (a *Arena) forgetMinimum() { a.o.Minimum = nil }

// Close gives all memory back. While heaps, zones or pools have some of it
// lent, or a mirror has not let go of it, the error wraps ErrBusy, and Close
// can be called again later; those that have nothing lent are closed by then.
func (a *Arena) Close() error {
	a.closing.Lock()
	defer a.closing.Unlock()
	if a.open() != nil {
		return nil
	}
	if err := a.users.close(); err != nil {
		return err
	}
	ctx := context.Background()
	err := errors.Join(a.Reclaim(ctx), a.expelAll(ctx))
	var kept []part
	a.locked(func() {
		if n := a.inUse(); n > 0 {
			err = errors.Join(fmt.Errorf("%s: %w", bytesText(n), ErrBusy), err)
			return
		}
		err = nil // what failed at first has succeeded since
		a.closed = true
		a.forgetMinimum()
		for _, c := range a.classes {
			kept = append(kept, c.all().runs(func(s *slot) bool { return s.state == idle })...)
		}
		for _, p := range kept {
			a.move(p, leaving)
		}
	})
	if err != nil {
		return err
	}
	for _, p := range kept {
		err = errors.Join(err, a.depart(ctx, p))
	}
	if err = errors.Join(err, a.settle(ctx)); err != nil {
		a.locked(func() { a.closed = false })
		return err
	}
	a.unregister()
	return a.unreserve()
}

// inUse counts the bytes that are not the arena's to give back, and what there is
// of external memory. mu is held.
func (a *Arena) inUse() (n uint64) {
	for _, c := range a.outside.all() {
		n += uint64(len(c.mem))
	}
	for _, u := range a.usage {
		n += u.mapped() - u[idle]
	}
	return n
}

// unreserve gives the address space back, except where it is lost, or where
// memory is that could not be unmapped.
func (a *Arena) unreserve() (err error) {
	for _, c := range a.classes {
		c.work.Lock()
		c.forget()
		var runs []part
		a.locked(func() {
			runs = c.all().runs(func(s *slot) bool { return s.state == free })
			c.slots, *c.count = nil, usage{}
		})
		for _, p := range runs {
			err = errors.Join(err, a.k.unmap(p.mem()))
		}
		c.work.Unlock()
	}
	return err
}
