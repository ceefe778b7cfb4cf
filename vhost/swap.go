package vhost

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/vhostd/vhostd/memtable"
)

// setMemTable replaces all regions. Those that stay keep their mapping, so
// rings in them go on as if nothing had happened.
func (s *Session) setMemTable(m *message) (payload, error) {
	table, err := decode[MemTable](m)
	if err != nil {
		return nil, err
	}
	if n := m.fds.Len(); n < len(table) {
		return nil, notShared(fmt.Errorf("%d files came for %d regions", n, len(table)))
	}
	regions, fresh, err := s.mapAll(table, m.fds)
	if err != nil {
		return nil, err
	}
	return nil, s.setRegions(regions, fresh)
}

func (s *Session) getMaxMemSlots(*message) (payload, error) { return U64(maxSlots), nil }

// addMemReg adds a region. One that is there already is success and changes
// nothing: QEMU 7.2 sends each once per queue pair.
func (s *Session) addMemReg(m *message) (payload, error) {
	w, err := decode[SingleRegion](m)
	if err != nil {
		return nil, err
	}
	regions, fresh, err := s.mapAll([]MemRegion{MemRegion(w)}, m.fds)
	switch {
	case err != nil:
		return nil, err
	case len(fresh) == 0:
		return nil, nil
	case len(s.memory.regions) >= maxSlots:
		closeRegions(fresh)
		return nil, fmt.Errorf("all %d memory slots are in use", maxSlots)
	}
	return nil, s.setRegions(append(slices.Clone(s.memory.regions), regions...), fresh)
}

// remMemReg removes the region at these addresses, whatever its offset. One
// that is gone already is success: see addMemReg.
func (s *Session) remMemReg(m *message) (payload, error) {
	w, err := decode[SingleRegion](m)
	if err != nil {
		return nil, err
	}
	left := slices.DeleteFunc(slices.Clone(s.memory.regions), func(r region) bool {
		return r.GPA == w.GPA && r.UVA == w.UVA && r.Size == w.Size
	})
	return nil, s.setRegions(left, nil)
}

// setRegions puts regions in the place of the old ones, of which fresh are new
// mappings. When it returns nil nobody uses what vanished, and it is unmapped;
// an error that is not fatal has changed nothing.
func (s *Session) setRegions(regions, fresh []region) error {
	gone := s.memory.without(regions)
	if len(gone) == 0 && len(regions) == len(s.memory.regions) {
		return nil
	}
	next, err := newMemory(regions)
	if err != nil {
		closeRegions(fresh)
		return err
	}
	s.memory = next
	return s.retire(gone)
}

// retire lets the rings follow the state, and unmaps what it does not name any
// more as soon as no worker can touch it.
func (s *Session) retire(gone []*memtable.Mapping) error {
	s.condemned = append(s.condemned, gone...)
	if err := s.apply(); err != nil {
		return err // the end of the session unmaps them
	}
	condemned := s.condemned
	s.condemned = nil
	s.unlocked(func() { s.unmap(condemned) })
	return nil
}

// unmap closes mappings that no worker uses. Info may be looking at them: it
// holds the other side of the lock.
func (s *Session) unmap(mappings []*memtable.Mapping) {
	s.mapped.Lock()
	defer s.mapped.Unlock()
	for _, m := range mappings {
		if err := m.Close(); err != nil {
			s.log(slog.LevelError, "memory was not unmapped", "error", err)
		}
	}
}
