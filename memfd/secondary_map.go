package memfd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// mirrored is a reservation of the primary, made here. It stays for as long as
// the secondary, whatever fails: nothing else may come to lie there. That for
// external memory stays for as long as some of it is mapped.
type mirrored struct {
	space
	mem  []byte
	ext  bool // it is external memory
	base memtable.VA
	lost bool             // part of it may not be ours any more: it is never touched again
	have map[uint32]*view // by extent; guarded by Secondary.mu
}

func newMirrored(sp space, mem []byte) *mirrored {
	w := memtable.Wrap(mem, memtable.FileID{}, 0, nil)
	defer w.Close() // of wrapped memory: nothing is unmapped, and holes must not be taken for memory
	return &mirrored{space: sp, mem: mem, base: w.VA(), have: make(map[uint32]*view)}
}

func (m *mirrored) part(first, n uint32) []byte {
	return m.mem[uint64(first)*m.unit:][:uint64(n)*m.unit]
}

// view is an extent that is mapped here.
type view struct {
	e      memtable.Extent
	mem    *memtable.Mapping // so that a fault in it is known to be the primary's doing
	listed bool              // look-ups find it
}

// lentFile is a file of the primary, and how many extents here are of it.
type lentFile struct{ fd, n int }

// brokenError says that the reservation could not be put back over what was
// mapped: nobody knows any more what is there.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return "address space is lost: " + e.err.Error() }

func (e *brokenError) Unwrap() error { return e.err }

// String is for whoever shows the owner of a memtable.FaultError.
func (s *Secondary) String() string { return "memory of the primary " + s.plot.name }

// reserve takes all the address space of the primary, or none.
func (s *Secondary) reserve() error {
	for _, sp := range s.plot.spaces {
		mem, err := s.k.reserve(sp.first, sp.size)
		if err != nil {
			short := &ShortageError{What: fmt.Sprintf("address space from 0x%x on", sp.first), Node: AnyNode,
				Want: sp.size, Err: err, Advice: "allow more (ulimit -v), or set Options.Space of the primary to less"}
			if errors.Is(err, unix.EEXIST) {
				short.Advice = "this process has something else there (see /proc/self/maps): set Options.Base of the primary " +
					"to an address that is free in all processes, as 0x100000000000 mostly is"
			}
			return errors.Join(short, s.unmapAll())
		}
		m := newMirrored(sp, mem)
		s.mu.Lock()
		s.spaces = append(s.spaces, m)
		s.mu.Unlock()
	}
	return nil
}

// arrive maps runs, or none of them. work is held.
func (s *Secondary) arrive(more []space, runs []run, m *message) (err error) {
	files, err := s.adopt(m)
	if err != nil {
		return err
	}
	defer s.forsake()
	defer s.vacate()
	if err := s.settle(more); err != nil {
		return err
	}
	all := s.stretches(more, runs)
	for i, r := range all {
		if err := s.enter(r, files[r.file]); err != nil {
			for _, done := range all[:i] {
				err = errors.Join(err, s.hide(done))
			}
			return err
		}
	}
	if err := s.list(all); err != nil {
		for _, r := range all {
			err = errors.Join(err, s.hide(r))
		}
		return err
	}
	s.tell(Allocated, s.extents(all))
	return nil
}

// adopt takes over the files that came with a message, but those it has already.
func (s *Secondary) adopt(m *message) ([]memtable.FileID, error) {
	ids := make([]memtable.FileID, len(m.files))
	for i, fd := range m.files {
		var err error
		if ids[i], err = s.k.identify(fd); err != nil {
			s.forsake()
			return nil, err
		}
		s.mu.Lock()
		if s.files[ids[i]] == nil {
			s.files[ids[i]] = &lentFile{fd: fd}
			m.files[i] = -1
		}
		s.mu.Unlock()
	}
	return ids, nil
}

// forsake closes the files of which nothing is mapped.
func (s *Secondary) forsake() {
	var old []int
	s.mu.Lock()
	for id, f := range s.files {
		if f.n == 0 {
			old = append(old, f.fd)
			delete(s.files, id)
		}
	}
	s.mu.Unlock()
	for _, fd := range old {
		_ = s.k.close(fd) // Linux frees the descriptor whatever it answers
	}
}

// enter maps one run.
func (s *Secondary) enter(r stretch, id memtable.FileID) error {
	m := r.m
	s.mu.Lock()
	f := s.files[id]
	for i := range r.n {
		if m.have[r.first+i] != nil {
			s.mu.Unlock()
			return &wireError{"extents that had arrived before"}
		}
	}
	s.mu.Unlock()
	mem := m.part(r.first, r.n)
	lay := s.k.mapFile
	if m.ext {
		lay = s.k.mapOthers
	}
	err := lay(mem, f.fd, int64(r.off))
	if err == nil {
		err = s.k.undump(mem)
	}
	if err != nil {
		// A call that fails may have torn a hole in the reservation.
		if fail := s.k.hide(mem); fail != nil {
			m.lost = true
			return &brokenError{fail}
		}
		if errors.Is(err, unix.ENOMEM) {
			err = &ShortageError{What: "mappings in this process", Node: AnyNode, Want: uint64(len(mem)), Err: err,
				Advice: "allow more (vm.max_map_count, ulimit -v), or use larger pages or extents"}
		}
		return err
	}
	tag := Private
	if r.shared {
		tag = Shared
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range r.n {
		at := uint64(i) * m.unit
		e := memtable.Extent{VA: m.base.Add(uint64(r.first)*m.unit + at), Addr: r.addr + memtable.IOVA(at), Size: m.unit,
			File: id, FD: f.fd, Offset: int64(r.off + at), Page: m.page, Node: m.node, Tag: tag}
		m.have[r.first+i] = &view{e: e, mem: memtable.Wrap(mem[at:][:m.unit], id, e.Offset, s)}
	}
	f.n += int(r.n)
	return nil
}

// leave unmaps what there is of runs. After an error it can be tried again, and
// until then it is mapped and out of the look-ups. work is held.
func (s *Secondary) leave(runs []stretch) error {
	e := s.extents(runs)
	s.tell(Leaving, e)
	if err := s.unlist(runs); err != nil {
		return err
	}
	if s.o.Domain != nil {
		// Less than the primary waits: late is better than given up.
		ctx, cancel := context.WithTimeout(context.Background(), s.plot.deadline/2)
		defer cancel()
		if err := s.o.Domain.Wait(ctx); err != nil {
			return err
		}
	}
	for _, r := range runs {
		if err := s.hide(r); err != nil {
			return err
		}
	}
	s.vacate()
	s.forsake()
	s.tell(Gone, e)
	return nil
}

// hide puts the reservation back over extents, those of them that are mapped.
func (s *Secondary) hide(r stretch) error {
	m := r.m
	if err := s.k.hide(m.part(r.first, r.n)); err != nil {
		m.lost = true
		return &brokenError{err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range r.n {
		if v := m.have[r.first+i]; v != nil {
			s.files[v.e.File].n--
			_ = v.mem.Close() // of wrapped memory: nothing is unmapped
			delete(m.have, r.first+i)
		}
	}
	return nil
}

// unmapAll gives all address space back, and everything in it, but what is lost.
func (s *Secondary) unmapAll() (err error) {
	err = s.clear()
	s.mu.Lock()
	spaces := slices.Concat(s.spaces, s.outside)
	s.spaces, s.outside = nil, nil
	for _, m := range spaces {
		for _, v := range m.have {
			s.files[v.e.File].n--
			_ = v.mem.Close()
		}
	}
	s.mu.Unlock()
	for _, m := range spaces {
		if m.lost {
			err = errors.Join(err, &brokenError{fmt.Errorf("%s from 0x%x on stay mapped", bytesText(m.size), m.first)})
			continue
		}
		err = errors.Join(err, s.k.unmap(m.mem))
	}
	s.forsake()
	return err
}
