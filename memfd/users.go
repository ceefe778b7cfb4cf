package memfd

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// users are who takes memory from an arena: heaps, zones and pools.
type users struct {
	heaps names[*Heap]
	pools names[*Pool]
	zones zones
	known names[*External]
}

// close ends all of them that have nothing lent. What the others have lent is
// an error that wraps ErrBusy.
func (u *users) close() (err error) {
	for _, p := range u.pools.all() {
		err = errors.Join(err, p.Close())
	}
	for _, h := range u.heaps.all() {
		err = errors.Join(err, h.Close())
	}
	return errors.Join(err, u.zones.close())
}

// nodeOf gives the node to ask for: none in an arena that knows of none.
func (a *Arena) nodeOf(node int) int {
	if len(a.o.Nodes) == 1 && a.o.Nodes[0] == AnyNode {
		return AnyNode
	}
	return node
}

// named tests a name.
func named(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("%w: use 1 to %d bytes", ErrName, MaxName)
	}
	return nil
}

// open tests that the arena is not closed.
func (a *Arena) open() (err error) {
	a.locked(func() {
		if a.closed {
			err = ErrClosed
		}
	})
	return err
}

// names are users of one kind.
type names[T comparable] struct {
	mu sync.Mutex
	of map[string]T
}

// enter puts v in, if its name is good and not in use.
func (n *names[T]) enter(a *Arena, kind, name string, v T) error {
	if err := cmp.Or(named(name), a.open()); err != nil {
		return fmt.Errorf("%s %q: %w", kind, name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.of[name]; ok {
		return fmt.Errorf("%s %q: %w", kind, name, ErrExists)
	}
	if n.of == nil {
		n.of = make(map[string]T)
	}
	n.of[name] = v
	return nil
}

// leave takes v out. Another one of the same name stays.
func (n *names[T]) leave(name string, v T) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.of[name] == v {
		delete(n.of, name)
	}
}

// all gives who is in, by name.
func (n *names[T]) all() []T {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]T, 0, len(n.of))
	for _, name := range slices.Sorted(maps.Keys(n.of)) {
		all = append(all, n.of[name])
	}
	return all
}
