package main

import (
	"context"
	"errors"
	"sync"

	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/memtable"
)

// heaps allocates and frees, in a heap that has its memory already and keeps it:
// DPDK's side has it from the start.
type heaps struct {
	heap *memfd.Heap
}

// warm makes the heap, with a thousand buffers of many sizes in it and holes
// between them.
func (h *heaps) warm() error {
	if h.heap != nil {
		return nil
	}
	a, err := memfd.New(memfd.Options{Name: "membench", Pages: []uint64{page}, Linger: -1})
	if err != nil {
		return err
	}
	if h.heap, err = a.Heap("membench", memfd.HeapOptions{Shared: true}); err != nil {
		return err
	}
	ctx := context.Background()
	all, err := h.heap.Alloc(ctx, 256<<20, 0)
	if err == nil {
		err = h.heap.Free(all)
	}
	var stay [2000]memtable.Buf
	for i := range stay {
		if err == nil {
			stay[i], err = h.heap.Alloc(ctx, uint64(64+i*8), 0)
		}
	}
	for i := 0; i < len(stay) && err == nil; i += 2 {
		err = h.heap.Free(stay[i])
	}
	return err
}

// answer gives ns to allocate and free, for a thread: "THREADS SIZE BURST".
func (h *heaps) answer(q *question) (float64, error) {
	if err := h.warm(); err != nil {
		return 0, err
	}
	threads, size, burst := q.number(), q.number(), q.number()
	if threads < 1 || threads > 2 || size == 0 || burst == 0 || burst > 64 {
		return 0, errors.New("heap THREADS SIZE BURST")
	}
	took, errs := make([]float64, threads), make([]error, threads)
	var wg sync.WaitGroup
	for i := range took {
		wg.Go(func() {
			pin(i) // until the goroutine ends, and its thread with it
			took[i], errs[i] = h.work(size, int(burst), threads == 1)
		})
	}
	wg.Wait()
	sum := 0.0
	for _, t := range took {
		sum += t
	}
	return sum / float64(threads), errors.Join(errs...)
}

// work allocates a burst and frees it in another order, until time is up.
func (h *heaps) work(size uint64, burst int, alone bool) (ns float64, err error) {
	ctx := context.Background()
	var held [64]memtable.Buf
	return timed(alone, func() (int, error) {
		for again := 0; again < len(held); again += burst {
			for i := range burst {
				if held[i], err = h.heap.Alloc(ctx, size, 0); err != nil {
					return 0, err
				}
			}
			for i := range burst {
				if err := h.heap.Free(held[(i*7+3)%burst]); err != nil {
					return 0, err
				}
			}
		}
		return len(held), nil
	})
}
