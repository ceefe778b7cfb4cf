package dma

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/vhostd/vhostd/memtable"
)

// pagemapFile tells where the pages of this process are. It is made for each
// open file from the address space of who opens it.
const pagemapFile = "/proc/self/pagemap"

// An entry of the pagemap has 64 bits for each page of address space, in the
// byte order of the machine (Linux, admin-guide/mm/pagemap).
const (
	frameBits = 1<<55 - 1 // the page frame number, if the page is present
	swapped   = 1 << 62
	present   = 1 << 63

	entrySize = 8
)

// ErrHidden says that the kernel does not tell us physical addresses.
var ErrHidden = errors.New("physical addresses are hidden from this process: give it CAP_SYS_ADMIN " +
	"(run as root, or setcap cap_sys_admin+ep), or use IOVA as VA, which needs no right: " +
	"with an IOMMU, or where the other side is a process")

// NotPresentError says that a page has no physical address now, because it is
// not in physical memory: it was never touched, or swapped out.
type NotPresentError struct {
	VA      memtable.VA
	Swapped bool
}

func (e *NotPresentError) Error() string {
	if e.Swapped {
		return fmt.Sprintf("the page at %v is swapped out: lock it (mlock) or use huge pages, which are never swapped", e.VA)
	}
	return fmt.Sprintf("the page at %v is not present: nothing is mapped there, or it was never touched", e.VA)
}

// Pagemap tells physical addresses. It implements memtable.Resolver and may be
// used from any goroutine.
//
// What it tells is true at the moment it is read. Only what a device pins stays
// where it is; locked pages (mlock) stay in memory and are still moved by the
// kernel when it compacts memory or balances nodes.
type Pagemap struct {
	file io.ReaderAt
	page uint64 // bytes
}

// OpenPagemap opens the pagemap of this process. Whether the kernel hides the
// addresses in it is only seen when one is resolved; older kernels refuse to
// open it, which is ErrHidden too.
func OpenPagemap() (*Pagemap, error) {
	f, err := os.Open(pagemapFile)
	if errors.Is(err, os.ErrPermission) {
		return nil, errors.Join(ErrHidden, err)
	}
	if err != nil {
		return nil, err
	}
	return newPagemap(f, uint64(os.Getpagesize())), nil
}

func newPagemap(file io.ReaderAt, page uint64) *Pagemap { return &Pagemap{file, page} }

// Close closes the file.
func (p *Pagemap) Close() error {
	if c, ok := p.file.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// The number of entries that are read at once: few at first, since what
// follows is seldom a neighbour, and then more and more, up to a huge page of
// 2 MiB.
const (
	fewEntries  = 4
	mostEntries = 512
)

// Buffers are kept, because an arena of system pages asks for each of them.
type buffer [mostEntries * entrySize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// Resolve gives the physical address of v, and how many of the n bytes there
// follow it in physical memory. Errors are ErrHidden, a *NotPresentError about
// the page of v, or of reading. n must not be 0.
func (p *Pagemap) Resolve(v memtable.VA, n uint64) (pa memtable.PA, length uint64, err error) {
	at := uint64(uintptr(v.Pointer()))
	in := at % p.page
	if n == 0 || n > 1<<63 {
		return 0, 0, fmt.Errorf("the physical address of %d bytes at %v was asked for", n, v)
	}
	first := at / p.page
	pages := (in+n-1)/p.page + 1
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	var frame uint64 // of v
	for done, step := uint64(0), uint64(fewEntries); done < pages; step = min(8*step, mostEntries) {
		got := buf[:min(step, pages-done)*entrySize]
		if _, err := p.file.ReadAt(got, int64((first+done)*entrySize)); err != nil {
			if errors.Is(err, io.EOF) { // beyond the end of the address space
				return 0, 0, &NotPresentError{VA: v}
			}
			return 0, 0, fmt.Errorf("reading the pagemap: %w", err)
		}
		for ; len(got) > 0; got = got[entrySize:] {
			e := binary.NativeEndian.Uint64(got)
			if done == 0 {
				if err := check(e, v); err != nil {
					return 0, 0, err
				}
				frame = e & frameBits
			}
			if e&present == 0 || e&frameBits != frame+done {
				return p.address(frame, in), done*p.page - in, nil
			}
			done++
		}
	}
	return p.address(frame, in), n, nil
}

func (p *Pagemap) address(frame, in uint64) memtable.PA { return memtable.PA(frame*p.page + in) }

// check tests whether an entry tells where the page is.
func check(e uint64, v memtable.VA) error {
	switch {
	case e&present == 0:
		return &NotPresentError{VA: v, Swapped: e&swapped != 0}
	case e&frameBits == 0:
		return ErrHidden
	}
	return nil
}
