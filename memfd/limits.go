package memfd

import (
	"errors"
	"slices"
)

// Growth is what a validator is asked about.
type Growth struct {
	Owner  string // who asks
	Node   int    // AnyNode: wherever the kernel puts it
	Page   uint64 // bytes
	Size   uint64 // bytes that would be added
	Total  uint64 // bytes that the node would then have, other growths on their way included
	Shared bool   // mirrors would be told
}

// validator has a say in growing.
type validator struct {
	name string
	node int
	ask  func(Growth) error
}

// Validate lets f decide about memory of a node, AnyNode being every node: if
// it returns an error the arena does not grow. The minimum is not asked about.
// No lock is held over f. Names are unique for a node. In legacy mode the error is
// ErrLegacy.
func (a *Arena) Validate(name string, node int, f func(Growth) error) (remove func(), err error) {
	if a.o.Legacy {
		return nil, ErrLegacy
	}
	v := &validator{name: name, node: node, ask: f}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, ErrClosed
	}
	if slices.ContainsFunc(a.validators, func(o *validator) bool { return o.name == name && o.node == node }) {
		return nil, errors.New("there is a validator " + name + " for this node already")
	}
	a.validators = append(a.validators, v)
	return func() {
		a.locked(func() { a.validators = without(a.validators, v) })
	}, nil
}

// validate asks all validators of the node.
func (a *Arena) validate(g Growth) error {
	var asked []*validator
	a.locked(func() { asked = slices.Clone(a.validators) })
	for _, v := range asked {
		if v.node != AnyNode && v.node != g.Node {
			continue
		}
		if err := v.ask(g); err != nil {
			return &RefusedError{By: "validator " + v.name, Err: err}
		}
	}
	return nil
}

// withinLimit tests whether size more bytes are allowed on a node. mu is held.
func (a *Arena) withinLimit(node int, mapped, size uint64) error {
	limit, ok := a.o.Limit[node]
	if !ok || mapped <= limit && size <= limit-mapped {
		return nil
	}
	return &ShortageError{What: "the limit", Node: node, Want: size, Have: limit - min(limit, mapped),
		Advice: "set Options.Limit to more, or free memory"}
}

// withinPageLimit tests whether size more bytes are allowed in pages as c has them.
// mu is held.
func (a *Arena) withinPageLimit(c *class, size uint64) error {
	limit, ok := a.o.PageLimit[c.page]
	if !ok || size == 0 {
		return nil
	}
	var mapped uint64
	for _, o := range a.classes {
		if o.page == c.page {
			mapped += o.own.mapped()
		}
	}
	if mapped <= limit && size <= limit-mapped {
		return nil
	}
	return &ShortageError{What: "the limit of pages of " + bytesText(c.page), Node: c.node, Want: size,
		Have: limit - min(limit, mapped), Advice: "set Options.PageLimit to more, or free memory"}
}

// without gives a copy of all that lacks one.
func without[T any](all []*T, one *T) []*T {
	return slices.DeleteFunc(slices.Clone(all), func(o *T) bool { return o == one })
}
