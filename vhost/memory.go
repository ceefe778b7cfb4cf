package vhost

import (
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// maxSlots is the answer to GET_MAX_MEM_SLOTS, and how many regions a session
// maps at most. QEMU uses 256 of them for memory devices at most.
const maxSlots = 509

// maxMemory bounds the bytes of all regions of a session: a sparse file of any
// size costs its sender nothing, but takes address space of ours.
const maxMemory = 16 << 40

// region is a region of the peer's memory, as it was announced and mapped. All
// of its fields but the last two are its identity.
type region struct {
	MemRegion
	file    memtable.FileID
	mapping *memtable.Mapping
	since   time.Time
}

// same says whether r is the same memory in the same place as what the message
// names by w and the file id.
func (r region) same(w MemRegion, id memtable.FileID) bool { return r.MemRegion == w && r.file == id }

// checkTotal refuses regions that are too much together.
func checkTotal(regions []MemRegion) error {
	left := uint64(maxMemory)
	for _, r := range regions {
		if r.Size > left {
			return fmt.Errorf("the regions have more than %d bytes together, which is the most that one front-end may share", uint64(maxMemory))
		}
		left -= r.Size
	}
	return nil
}

// memory is an immutable set of regions, by the two addresses the peer uses.
type memory struct {
	regions []region
	byGPA   *memtable.Table[memtable.GPA] // what descriptors carry
	byUVA   *memtable.Table[memtable.UVA] // what SET_VRING_ADDR carries
	changed time.Time
}

// newMemory builds the tables; regions that overlap, or that are too much
// together, are an error.
func newMemory(regions []region) (*memory, error) {
	all := make([]MemRegion, len(regions))
	gpa := make([]memtable.Region[memtable.GPA], len(regions))
	uva := make([]memtable.Region[memtable.UVA], len(regions))
	for i, r := range regions {
		all[i] = r.MemRegion
		gpa[i] = memtable.Region[memtable.GPA]{Addr: r.GPA, Size: r.Size, Mem: r.mapping}
		uva[i] = memtable.Region[memtable.UVA]{Addr: r.UVA, Size: r.Size, Mem: r.mapping}
	}
	if err := checkTotal(all); err != nil {
		return nil, err
	}
	byGPA, err := memtable.New(gpa, memtable.Options{})
	if err != nil {
		return nil, err
	}
	byUVA, err := memtable.New(uva, memtable.Options{})
	if err != nil {
		return nil, err
	}
	return &memory{regions: regions, byGPA: byGPA, byUVA: byUVA, changed: time.Now()}, nil
}

// find gives the region that is the same as w in the file id.
func (m *memory) find(w MemRegion, id memtable.FileID) (region, bool) {
	i := slices.IndexFunc(m.regions, func(r region) bool { return r.same(w, id) })
	if i < 0 {
		return region{}, false
	}
	return m.regions[i], true
}

// without gives the mappings of m that next does not have.
func (m *memory) without(next []region) (gone []*memtable.Mapping) {
	for _, r := range m.regions {
		if !slices.ContainsFunc(next, func(n region) bool { return n.mapping == r.mapping }) {
			gone = append(gone, r.mapping)
		}
	}
	return gone
}

// ring resolves the memory of a ring; every part lies in one region.
func (m *memory) ring(a VringAddr, size uint16) (virtio.Ring, error) {
	desc, avail, used := virtio.SplitSizes(size)
	ring := virtio.Ring{Size: size}
	for _, part := range []struct {
		name string
		addr memtable.UVA
		size uint64
		to   *[]byte
	}{
		{"descriptor table", a.Desc, desc, &ring.Desc},
		{"available ring", a.Avail, avail, &ring.Avail},
		{"used ring", a.Used, used, &ring.Used},
	} {
		va, n, err := m.byUVA.Span(part.addr, part.size)
		if err == nil && n < part.size {
			err = fmt.Errorf("only %d of its %d bytes lie in one region", n, part.size)
		}
		if err != nil {
			return virtio.Ring{}, fmt.Errorf("the %s at %#x is not in the memory that the front-end shares: %w", part.name, uint64(part.addr), err)
		}
		*part.to = va.Bytes(part.size)
	}
	return ring, ring.Check()
}

// notSharedError is memory that cannot be reached from another process. Its
// text is for the operator.
type notSharedError struct{ err error }

func (e *notSharedError) Error() string {
	return "memory is not shared: start QEMU with -object memory-backend-memfd,id=mem,size=…,share=on " +
		"and -machine memory-backend=mem (" + e.err.Error() + ")"
}

func (e *notSharedError) Unwrap() error { return e.err }

func notShared(err error) error { return &notSharedError{err} }

// mapRegion maps what w names of fd, which stays the caller's.
func (s *Session) mapRegion(fd int, w MemRegion, id memtable.FileID) (region, error) {
	if w.Offset > math.MaxInt64 {
		return region{}, fmt.Errorf("region at offset %#x of its file: no file is that long", w.Offset)
	}
	m, err := memtable.MapFile(fd, int64(w.Offset), w.Size, memtable.MapOptions{Owner: s})
	if err != nil {
		err = fmt.Errorf("region at guest address %#x: %w", uint64(w.GPA), err)
		if !shareable(fd) {
			err = notShared(err)
		}
		return region{}, err
	}
	return region{MemRegion: w, file: id, mapping: m, since: time.Now()}, nil
}

// shareable says whether fd is memory: a memfd, tmpfs or hugetlbfs.
func shareable(fd int) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(fd, &fs) == nil && (int64(fs.Type) == unix.TMPFS_MAGIC || int64(fs.Type) == unix.HUGETLBFS_MAGIC)
}

// fileID is the identity of an open file.
func fileID(fd int) (memtable.FileID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return memtable.FileID{}, fmt.Errorf("received file: %w", err)
	}
	return memtable.FileID{Dev: uint64(st.Dev), Ino: st.Ino}, nil
}

// mapAll gives a region for each of want, the one that is there where it is
// the same, and otherwise a new one. After an error nothing new is mapped.
func (s *Session) mapAll(want []MemRegion, fds *fdSet) (regions, fresh []region, err error) {
	if err := checkTotal(want); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			closeRegions(fresh)
		}
	}()
	for i, w := range want {
		fd, err := fds.Take(i)
		if err != nil {
			return nil, fresh, err
		}
		r, isNew, err := s.known(fd, w)
		closeFD(fd) // the mapping keeps the memory
		if err != nil {
			return nil, fresh, err
		}
		if isNew {
			fresh = append(fresh, r)
		}
		regions = append(regions, r)
	}
	return regions, fresh, nil
}

// known gives the region that w names in fd, mapped already or mapped now.
func (s *Session) known(fd int, w MemRegion) (r region, isNew bool, err error) {
	id, err := fileID(fd)
	if err != nil {
		return region{}, false, err
	}
	if r, ok := s.memory.find(w, id); ok {
		return r, false, nil
	}
	r, err = s.mapRegion(fd, w, id)
	return r, true, err
}

func closeRegions(regions []region) {
	for _, r := range regions {
		_ = r.mapping.Close() // it was never published; nothing else can be done
	}
}
