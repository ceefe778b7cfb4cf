package main

import (
	"fmt"
	"sync"

	"github.com/vhostd/vhostd/qemu-test/guestapi"
)

// handles are the things of one kind that go on between two requests.
type handles[T any] struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]T
}

func (h *handles[T]) add(v T) guestapi.Handle {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open == nil {
		h.open = make(map[uint64]T)
	}
	h.last++
	h.open[h.last] = v
	return guestapi.Handle{Handle: h.last}
}

// take removes and returns what a handle names.
func (h *handles[T]) take(which guestapi.Handle) (T, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.open[which.Handle]
	if !ok {
		return v, fmt.Errorf("nothing has the handle %d", which.Handle)
	}
	delete(h.open, which.Handle)
	return v, nil
}
