package vhost

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memtable"
)

// ErrNotShared is memory that the back-end cannot reach: it has no file, or did
// not come from the source that the front-end follows.
var ErrNotShared = errors.New("the memory is not shared with the back-end")

// sharedRegion is a region as a back-end was told of it, and its file.
type sharedRegion struct {
	MemRegion
	file memtable.FileID
}

func (r sharedRegion) end() memtable.GPA { return r.GPA + memtable.GPA(r.Size) }

// holds says whether e lies in r.
func (r sharedRegion) holds(e memtable.Extent) bool {
	return r.file == e.File && r.has(memtable.GPA(e.Addr), e.Size) &&
		uint64(e.Addr)-uint64(r.GPA) == uint64(e.Offset)-r.Offset &&
		uint64(e.Addr)-uint64(r.GPA) == uint64(e.VA.UVA())-uint64(r.UVA)
}

// has says whether n bytes at a lie in r.
func (r MemRegion) has(a memtable.GPA, n uint64) bool {
	return a >= r.GPA && n <= r.Size && uint64(a-r.GPA) <= r.Size-n
}

// touches says whether r and e have an address in common.
func (r sharedRegion) touches(e memtable.Extent) bool {
	return memtable.GPA(e.Addr) < r.end() && r.GPA < memtable.GPA(e.Addr)+memtable.GPA(e.Size)
}

// share is what the front-end shares: the extents that the source has, and the
// regions that the back-end has acknowledged. It is the turn's, but for what is
// said otherwise.
type share struct {
	extents []memtable.Extent // with a file, by address; their FD is ours
	files   map[memtable.FileID]*sharedFile
	regions []sharedRegion // the back-end's, in no order
	begun   bool           // the back-end of this connection has memory
	room    limits         // of this back-end, or of the last one

	told  atomic.Pointer[[]sharedRegion] // what of extents lies in regions, by address, for anybody
	stats shareStats
}

// limits are what a back-end takes.
type limits struct {
	slots   int // memory slots; 0: whole tables only
	regions int // that there may be
}

// room is what the back-end behind l takes.
func (l *peerLink) room() limits {
	if l.slots > 0 {
		return limits{slots: l.slots, regions: l.slots}
	}
	return limits{regions: maxRegions}
}

// sharedFile is a file of ours, kept open because the source lends its own for
// the length of a call only, and a later connection needs it again.
type sharedFile struct{ fd, extents int }

// duplicate opens the files of e once more. What is not taken is to be closed.
func duplicate(e []memtable.Extent) (map[memtable.FileID]int, error) {
	fds := make(map[memtable.FileID]int)
	for _, x := range e {
		if _, ok := fds[x.File]; ok || x.FD < 0 {
			continue
		}
		fd, err := unix.FcntlInt(uintptr(x.FD), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeAll(fds)
			return nil, fmt.Errorf("a file of shared memory cannot be kept: %w", err)
		}
		fds[x.File] = fd
	}
	return fds, nil
}

func closeAll(fds map[memtable.FileID]int) {
	for _, fd := range fds {
		closeFD(fd)
	}
	clear(fds)
}

// adopt adds extents; what has no file is left out, and what is there already
// stays. It takes what it needs of fds.
func (s *share) adopt(e []memtable.Extent, fds map[memtable.FileID]int) (added []memtable.Extent) {
	if s.files == nil {
		s.files = make(map[memtable.FileID]*sharedFile)
	}
	for _, x := range e {
		at, found := slices.BinarySearchFunc(s.extents, x, byAddr)
		if x.FD < 0 || found && same(s.extents[at], x) {
			continue
		}
		file := s.files[x.File]
		if file == nil {
			file = &sharedFile{fd: fds[x.File]}
			delete(fds, x.File)
			s.files[x.File] = file
		}
		file.extents++
		x.FD = file.fd
		s.extents = slices.Insert(s.extents, at, x)
		added = append(added, x)
	}
	return added
}

func byAddr(a, b memtable.Extent) int { return cmp.Compare(a.Addr, b.Addr) }

// same says whether a and b are one extent.
func same(a, b memtable.Extent) bool {
	return a.Addr == b.Addr && a.Size == b.Size && a.File == b.File && a.Offset == b.Offset && a.VA == b.VA
}

func (s *share) knows(e memtable.Extent) bool {
	i, found := slices.BinarySearchFunc(s.extents, e, byAddr)
	return found && same(s.extents[i], e)
}

// known gives those of e that are there.
func (s *share) known(e []memtable.Extent) []memtable.Extent {
	return slices.DeleteFunc(slices.Clone(e), func(x memtable.Extent) bool { return !s.knows(x) })
}

// without gives the extents there would be without e.
func (s *share) without(e []memtable.Extent) []memtable.Extent {
	rest, _ := s.split(e)
	return rest
}

// split parts the extents from those that are in e.
func (s *share) split(e []memtable.Extent) (rest, in []memtable.Extent) {
	named := make(map[memtable.IOVA]memtable.Extent, len(e))
	for _, x := range e {
		named[x.Addr] = x
	}
	for _, x := range s.extents {
		if y, ok := named[x.Addr]; ok && same(x, y) {
			in = append(in, x)
		} else {
			rest = append(rest, x)
		}
	}
	return rest, in
}

// abandon takes extents away, and closes the files that nothing is in any more.
func (s *share) abandon(e []memtable.Extent) {
	rest, in := s.split(e)
	for _, x := range in {
		if file := s.files[x.File]; file.extents > 1 {
			file.extents--
		} else {
			closeFD(file.fd)
			delete(s.files, x.File)
		}
	}
	s.extents = rest
}

// tells says whether n bytes at va are told to the back-end as addr, in one
// region.
func (s *share) tells(va memtable.UVA, addr memtable.IOVA, n uint64) bool {
	r, ok := s.at(addr, n)
	return ok && uint64(va)-uint64(r.UVA) == uint64(addr)-uint64(r.GPA)
}

// at gives what n bytes at addr lie in, of what the back-end has of the source.
// From any goroutine.
func (s *share) at(addr memtable.IOVA, n uint64) (r sharedRegion, ok bool) {
	all := s.told.Load()
	if all == nil {
		return r, false
	}
	return regionAt(*all, memtable.GPA(addr), n)
}

// meant cuts regions, sorted by address, to the extents in them. Where a gap is
// closed the back-end has what the file has there; what the source has at such
// an address may be memory without a file, which is something else.
func (s *share) meant(sorted []sharedRegion) (all []sharedRegion) {
	in := sharedRegion{} // the region that the last extent lies in
	for _, e := range s.extents {
		r, ok := regionAt(sorted, memtable.GPA(e.Addr), e.Size)
		if !ok || !r.holds(e) {
			continue
		}
		if n := len(all) - 1; n >= 0 && in == r && all[n].end() == memtable.GPA(e.Addr) {
			all[n].Size += e.Size
			continue
		}
		in = r
		lead := uint64(memtable.GPA(e.Addr) - r.GPA)
		r.GPA, r.UVA, r.Offset, r.Size = r.GPA+memtable.GPA(lead), r.UVA+memtable.UVA(lead), r.Offset+lead, e.Size
		all = append(all, r)
	}
	return all
}

// set says what the back-end has now.
func (s *share) set(regions []sharedRegion) {
	s.regions = regions
	all := slices.Clone(regions)
	slices.SortFunc(all, func(a, b sharedRegion) int { return cmp.Compare(a.GPA, b.GPA) })
	meant := s.meant(all)
	s.told.Store(&meant)
	s.stats.count(all, s.extents, s.room)
}

// lost says that the back-end has nothing any more.
func (s *share) lost() {
	s.begun = false
	s.set(nil)
}

// close closes the files. The source has taken its memory back, or will not.
func (s *share) close() {
	for _, file := range s.files {
		closeFD(file.fd)
	}
	s.files, s.extents = nil, nil
}

// regionAt gives the region of a table by address that n bytes at a lie in.
func regionAt(sorted []sharedRegion, a memtable.GPA, n uint64) (sharedRegion, bool) {
	i, found := slices.BinarySearchFunc(sorted, a, func(r sharedRegion, a memtable.GPA) int { return cmp.Compare(r.GPA, a) })
	if !found {
		i--
	}
	if i < 0 || !sorted[i].has(a, n) {
		return sharedRegion{}, false
	}
	return sorted[i], true
}

// Shares says whether n bytes at addr are the source's, and the back-end can
// reach them in one region. A buffer for which it says no must be copied or
// refused. From any goroutine.
func (f *Frontend) Shares(addr memtable.IOVA, n uint64) bool {
	_, ok := f.share.at(addr, n)
	return ok
}
