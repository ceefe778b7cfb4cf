package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
)

const (
	page = 2 << 20  // bytes
	file = 16 << 30 // bytes: what a list of pages had in DPDK 18.05
)

// placement is memory in use, in one file.
type placement struct {
	from  string
	fd    int
	runs  []memtable.Run // in use, by address
	close func() error
}

// owners come and go: each of these took so many pages, and every other one has
// gone since.
var owners = []int{4, 1, 2, 3, 1, 2, 5, 1, 2, 8, 1, 1, 3, 12, 2, 1, 6, 2, 1, 20, 4}

// stays tells which owners are still there.
func stays(i int) bool { return i%2 == 0 }

// mark writes the number of each page into it, counted from 1 over all runs.
func mark(mem []byte, n int) { binary.NativeEndian.PutUint64(mem, uint64(n)) }

func marked(mem []byte, n int) bool { return binary.NativeEndian.Uint64(mem) == uint64(n) }

// fromTop takes pages from the top of their file down. The file is mapped as a
// whole and can only be reached where it is in use, as /proc/self/maps tells.
func fromTop() (*placement, error) {
	const name = "casestudy-top"
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	p := &placement{from: "top", fd: fd}
	if err = unix.Ftruncate(fd, file); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	mem, err := unix.Mmap(fd, 0, file, unix.PROT_NONE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	p.close = func() error { return errors.Join(unix.Munmap(mem), unix.Close(fd)) }
	at := uint64(file)
	for i, pages := range owners {
		n := uint64(pages) * page
		at -= n
		if !stays(i) {
			continue
		}
		if err := errors.Join(unix.Fallocate(fd, 0, int64(at), int64(n)), unix.Mprotect(mem[at:][:n], unix.PROT_READ|unix.PROT_WRITE)); err != nil {
			return nil, errors.Join(fmt.Errorf("taking %d pages at offset %d: %w", pages, at, err), p.close())
		}
		p.runs = append(p.runs, memtable.Run{Offset: at, Size: n})
	}
	slices.Reverse(p.runs)
	number := 0
	for _, r := range p.runs {
		for off := uint64(0); off < r.Size; off += page {
			number++
			mark(mem[r.Offset+off:], number)
		}
	}
	return p, p.addresses(name)
}

// addresses finds in /proc/self/maps where the runs lie.
func (p *placement) addresses(name string) error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	next := 0
	for line := range strings.Lines(string(maps)) {
		var from, to, offset, dev, ino uint64
		var major uint64
		var rights string
		if !strings.Contains(line, name) {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x %s %x %x:%x %d", &from, &to, &rights, &offset, &major, &dev, &ino); err != nil {
			return fmt.Errorf("/proc/self/maps: %q: %w", line, err)
		}
		for next < len(p.runs) && rights[0] == 'r' && p.runs[next].Offset >= offset && p.runs[next].Offset < offset+to-from {
			r := &p.runs[next]
			r.Addr, r.File = from+r.Offset-offset, memtable.FileID{Dev: unix.Mkdev(uint32(major), uint32(dev)), Ino: ino}
			next++
		}
	}
	if next < len(p.runs) {
		return errors.New("/proc/self/maps does not tell where our memory is")
	}
	return nil
}

// fromZero is an arena.
func fromZero() (*placement, error) {
	a, err := memfd.New(memfd.Options{Name: "casestudy-zero", NoHuge: true, Extent: page})
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	var heaps []*memfd.Heap
	var bufs []memtable.Buf
	p := &placement{from: "offset 0"}
	p.close = func() error {
		var err error
		for i, h := range heaps {
			if stays(i) && i < len(bufs) {
				err = errors.Join(err, h.Free(bufs[i]))
			}
		}
		return errors.Join(err, a.Close())
	}
	for i, pages := range owners {
		h, err := a.Heap(fmt.Sprintf("owner %d", i), memfd.HeapOptions{Shared: true})
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		heaps = append(heaps, h)
		b, err := h.Alloc(ctx, uint64(pages)*page, 0)
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		bufs = append(bufs, b)
	}
	number := 0
	for i, h := range heaps {
		if !stays(i) {
			if err := errors.Join(h.Free(bufs[i]), h.Close()); err != nil {
				return nil, errors.Join(err, p.close())
			}
			continue
		}
		for off := uint64(0); off < uint64(bufs[i].Cap); off += page {
			number++
			mark(bufs[i].VA.Add(off).Bytes(8), number)
		}
	}
	p.runs, p.fd = a.Runs(), a.Extents()[0].FD
	return p, nil
}
