package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
)

// pages maps and unmaps huge pages. With "first" they are all that their file
// has, which is made for them and closed after them; with "next" it has others.
type pages struct {
	arena *memfd.Arena
	other *memfd.Heap
	stays memtable.Buf // of other
}

// medianOf gives the µs that f takes for n pages, of some turns.
func medianOf(n uint64, f func() error) (float64, error) {
	turns := 200
	if n > 8 {
		turns = 1
	}
	took := make([]float64, turns)
	for i := range took {
		if n == 1 {
			if err := mix(int64(i%16 + 1)); err != nil {
				return 0, err
			}
		}
		start := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		took[i] = float64(time.Since(start).Nanoseconds()) / 1e3
	}
	return median(took), nil
}

// mix has the kernel give another page next. On a machine that is itself virtual
// some pages take twice the time of others to clear, and who is always given the
// same one measures that.
func mix(n int64) error {
	fd, err := unix.MemfdCreate("mix", unix.MFD_CLOEXEC|unix.MFD_HUGETLB|unix.MFD_HUGE_2MB)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fallocate(fd, 0, 0, n*page)
}

// fallocate is the call, again if a signal of the runtime's interrupts it.
func fallocate(fd int, mode uint32, off, n int64) (err error) {
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Fallocate(fd, mode, off, n)
	}
	return err
}

// answer gives µs to map and unmap: "N first|next".
func (p *pages) answer(q *question) (float64, error) {
	n, which := q.number(), q.word()
	if p.arena == nil {
		a, err := memfd.New(memfd.Options{Name: "membench", Pages: []uint64{page}, Space: 2 << 30, Linger: -1})
		if err != nil {
			return 0, err
		}
		p.arena = a
	}
	if err := p.others(which == "next"); err != nil {
		return 0, err
	}
	return medianOf(n, func() error { return p.once(n * page) })
}

// others sees to it that the file has another page, or none.
func (p *pages) others(want bool) (err error) {
	switch {
	case want && p.other == nil:
		if p.other, err = p.arena.Heap("other", memfd.HeapOptions{}); err == nil {
			p.stays, err = p.other.Alloc(context.Background(), page, 0)
		}
	case !want && p.other != nil:
		err = errors.Join(p.other.Free(p.stays), p.other.Close())
		p.other = nil
	}
	return err
}

// once takes memory and gives it back at once: that is what closing a heap does.
func (p *pages) once(size uint64) error {
	h, err := p.arena.Heap("once", memfd.HeapOptions{Shared: true})
	if err != nil {
		return err
	}
	b, err := h.Alloc(context.Background(), size, 0)
	if err == nil {
		err = h.Free(b)
	}
	return errors.Join(err, h.Close())
}

// kernelPages gives what the kernel alone takes for the same, in µs: it maps
// the pages of a file with MAP_POPULATE, unmaps them and punches them out.
func kernelPages(q *question) (float64, error) {
	n, which := q.number(), q.word()
	size := int64(n) * page
	flags := unix.MFD_CLOEXEC | unix.MFD_HUGETLB | unix.MFD_HUGE_2MB
	file, at := -1, int64(0)
	var err error
	if which == "next" {
		if file, err = unix.MemfdCreate("membench", flags); err != nil {
			return 0, err
		}
		defer unix.Close(file)
		if at = page; fallocate(file, 0, 0, page) != nil {
			return 0, errors.New("no huge page")
		}
	}
	return medianOf(n, func() error {
		fd := file
		if fd < 0 {
			if fd, err = unix.MemfdCreate("membench", flags); err != nil {
				return err
			}
			defer unix.Close(fd)
		}
		mem, err := unix.Mmap(fd, at, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err != nil {
			return fmt.Errorf("mmap: %w", err)
		}
		if err := unix.Munmap(mem); err != nil {
			return err
		}
		return fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, size)
	})
}
