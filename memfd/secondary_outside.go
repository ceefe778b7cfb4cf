package memfd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// mostOutside is how many pieces of external memory a primary may have a
// secondary hold.
const mostOutside = 1 << 14

// AttachExternal maps the external memory of the primary that was registered by
// a name, or added to the external heap of that name: what there is, and what
// comes later. It is for who attached with AttachOptions.NoExternal, or has
// detached it. The error wraps ErrUnknown if there is none, ErrNoFile if none of
// it can be shared, and ErrOverlap if its addresses are taken in this process;
// then nothing has changed. If ctx ends first it may be attached all the same.
func (s *Secondary) AttachExternal(ctx context.Context, name string) error {
	return s.askFor(ctx, sayBring, name)
}

// DetachExternal unmaps external memory that has such a name, none of which may
// be in use here any more, and maps none that comes later. Errors are as those of
// AttachExternal; after another one, that it could not be unmapped, it is still
// attached.
func (s *Secondary) DetachExternal(ctx context.Context, name string) error {
	return s.askFor(ctx, sayTake, name)
}

func (s *Secondary) askFor(ctx context.Context, v verb, name string) error {
	err := named(name)
	if err == nil {
		_, err = s.ask(ctx, wish{verb: v, name: name})
	}
	if err != nil {
		return fmt.Errorf("external memory %q: %w", name, err)
	}
	return nil
}

// stretch is a run where it lies here.
type stretch struct {
	run
	m *mirrored
}

// stretches finds out where runs lie. What is in external memory that is not
// here is left out.
func (s *Secondary) stretches(more []space, runs []run) (all []stretch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range runs {
		if own := len(s.spaces); int(r.space) < own {
			all = append(all, stretch{r, s.spaces[r.space]})
		} else if i, ok := s.external(more[int(r.space)-own].first); ok && s.outside[i].space == more[int(r.space)-own] {
			all = append(all, stretch{r, s.outside[i]})
		}
	}
	return all
}

// external finds external memory by its first address, or where it would be.
// mu is held.
func (s *Secondary) external(first uint64) (i int, ok bool) {
	return slices.BinarySearchFunc(s.outside, first, func(m *mirrored, at uint64) int { return cmp.Compare(m.first, at) })
}

// settle reserves the addresses of external memory, but what is reserved. After
// an error vacate gives back what was. work is held.
func (s *Secondary) settle(more []space) error {
	for _, sp := range more {
		s.mu.Lock()
		i, ok := s.external(sp.first)
		same := ok && s.outside[i].space == sp
		s.mu.Unlock()
		switch {
		case same:
			continue
		case ok:
			return &wireError{"other external memory where there is some"}
		case len(s.outside) == mostOutside:
			return &ShortageError{What: "room for external memory (the number of pieces)", Node: AnyNode,
				Want: mostOutside + 1, Have: mostOutside, Advice: "add larger pieces"}
		}
		mem, err := s.k.reserve(sp.first, sp.size)
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%s of external memory at 0x%x: %w: this process has something else there (see /proc/self/maps): "+
				"map it in the primary where nothing is in any process, or attach with AttachOptions.NoExternal",
				bytesText(sp.size), sp.first, ErrOverlap)
		}
		if err != nil {
			return &ShortageError{What: fmt.Sprintf("address space from 0x%x on", sp.first), Node: AnyNode,
				Want: sp.size, Err: err, Advice: "allow more (ulimit -v), or attach with AttachOptions.NoExternal"}
		}
		m := newMirrored(sp, mem)
		m.ext = true
		s.mu.Lock()
		s.outside = slices.Insert(s.outside, i, m)
		s.mu.Unlock()
	}
	return nil
}

// vacate gives back the addresses of external memory of which nothing is mapped.
// What the kernel does not want back is reserved until the next time. work is
// held.
func (s *Secondary) vacate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outside = slices.DeleteFunc(s.outside, func(m *mirrored) bool {
		return len(m.have) == 0 && !m.lost && s.k.unmap(m.mem) == nil
	})
}
