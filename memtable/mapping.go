package memtable

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// FileID is the identity of a file: two descriptors with the same FileID share
// the same pages. The zero FileID is no file.
type FileID struct{ Dev, Ino uint64 }

// Mapping owns one piece of mapped memory. Its methods may be called from any
// goroutine; Close only once nobody can hold a [VA] into it any more (after
// [Domain.Wait]).
type Mapping struct {
	mem   []byte // the view: what was asked for
	raw   []byte // what mmap gave and munmap wants back; nil: not ours to unmap
	file  FileID
	off   int64  // of mem in the file
	page  uint64 // page size of the memory behind
	seals int    // -1: the file cannot be sealed
	owner any

	mu     sync.Mutex
	closed bool
}

// Wrap makes a Mapping of memory that somebody else owns: a Go slice in a test,
// an arena, external memory. id, off and owner are told as given. Close does
// not unmap it, but the memory stays referenced until the Mapping is dropped.
func Wrap(mem []byte, id FileID, off int64, owner any) *Mapping {
	m := &Mapping{mem: mem, file: id, off: off, page: uint64(os.Getpagesize()), seals: -1, owner: owner}
	mappings.add(m)
	return m
}

// VA points at the first byte.
func (m *Mapping) VA() VA { return vaOf(m.mem) }

// Bytes is the whole mapping as a slice, without a copy. The slice does not
// keep the mapping: it is good until Close.
func (m *Mapping) Bytes() []byte { return m.mem }

// Size is the length in bytes.
func (m *Mapping) Size() uint64 { return uint64(len(m.mem)) }

// File identifies the file behind; zero if there is none.
func (m *Mapping) File() FileID { return m.file }

// Offset is where in the file the mapping begins, in bytes.
func (m *Mapping) Offset() int64 { return m.off }

// PageSize is the size in bytes of the pages behind: the huge page size on
// hugetlbfs, else the system's.
func (m *Mapping) PageSize() uint64 { return m.page }

// Seals gives the F_SEAL_ bits the file had when it was mapped; ok is false if
// the file cannot be sealed. Without F_SEAL_SHRINK the peer may truncate the
// file under us at any time (see [Guard]).
func (m *Mapping) Seals() (seals int, ok bool) { return max(m.seals, 0), m.seals >= 0 }

// Owner is who is blamed when an access to this memory faults.
func (m *Mapping) Owner() any { return m.owner }

// Close unmaps, unless the memory was wrapped, and ends the blaming of the
// owner. Every VA and slice into the mapping is dead after it. A second Close
// does nothing.
func (m *Mapping) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	// First out of the registry: once it is unmapped, the next mapping may
	// get the same addresses, and its faults are not ours.
	mappings.remove(m)
	if m.raw == nil {
		return nil
	}
	if err := unix.Munmap(m.raw); err != nil {
		return os.NewSyscallError("munmap", err)
	}
	giveSpace(uint64(len(m.raw)))
	return nil
}

// tail is how many bytes from the beginning of the view are memory of ours:
// at least Size, and up to the end of the last page if we mapped it.
func (m *Mapping) tail() uint64 {
	if m.raw == nil {
		return m.Size()
	}
	return uint64(cap(m.mem))
}

// contains tells whether the byte at addr belongs to the view.
func (m *Mapping) contains(addr uintptr) bool {
	return addr-m.VA().number() < uintptr(len(m.mem))
}
