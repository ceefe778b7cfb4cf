package memfd

import (
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// EventKind says what happened to memory.
type EventKind int

const (
	Allocated EventKind = iota // it is mapped, mirrors have it, and it is about to be handed out
	Leaving                    // nothing in it is in use; it is still mapped
	Gone                       // it must not be touched any more
)

func (k EventKind) String() string { return [...]string{"allocated", "leaving", "gone"}[k] }

// Event tells of extents that follow one another, of one page size and node.
type Event struct {
	Kind    EventKind
	Extents []memtable.Extent
}

// watcher hears of events.
type watcher struct{ hear func(Event) }

// Watch lets f hear of all memory that comes and goes from now on. Memory that
// is quarantined is not gone before it is reclaimed. f is called by who allocates
// or frees, several at once, with no lock held: it may look at the arena, and
// holds up its caller. In legacy mode the error is ErrLegacy: no memory comes or
// goes.
func (a *Arena) Watch(f func(Event)) (remove func(), err error) {
	if a.o.Legacy {
		return nil, ErrLegacy
	}
	w := &watcher{f}
	a.locked(func() { a.watchers = append(a.watchers, w) })
	return func() {
		a.locked(func() { a.watchers = without(a.watchers, w) })
	}, nil
}

// tell tells all watchers.
func (a *Arena) tell(e Event) {
	var all []*watcher
	a.locked(func() { all = slices.Clone(a.watchers) })
	for _, w := range all {
		w.hear(e)
	}
}
