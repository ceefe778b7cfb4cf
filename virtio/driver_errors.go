package virtio

import (
	"errors"
	"fmt"
)

// Why a driver's queue is broken: what its device wrote into the used ring.
var (
	ErrUsedIndex = errors.New("used index beyond what is available")
	ErrUsedID    = errors.New("id beyond the descriptor table")
	ErrNotLent   = errors.New("head is not lent")
	ErrNotHead   = errors.New("descriptor is not the head of its chain")
	ErrUsedLen   = errors.New("more written than was writable")
	ErrOrder     = errors.New("used out of order though IN_ORDER was agreed on")
	ErrUnmapped  = errors.New("memory of the buffer is not mapped any more")
	ErrReclaimed = errors.New("everything was taken back")
)

// What a chain is refused with.
var (
	// ErrFull: there are not descriptors enough until some come back.
	ErrFull = errors.New("the ring is full")
	// ErrChain: there never will be.
	ErrChain = errors.New("chain is empty, or longer than the ring or 4 GiB")
)

// UsedError says why a driver's queue is broken: nothing more is added to it or
// reaped from it, and what is lent is got back by [DriverQueue.Reclaim] once the
// device lets go of it.
type UsedError struct {
	Queue int
	At    uint16 // index in the used ring, free-running
	Field string // of the ring: "idx", "id", "len"; or what else it was about
	Value uint32 // of the field
	Err   error  // ErrUsedIndex, ErrUsedID, ErrNotLent, ErrNotHead, ErrUsedLen, ErrOrder, ErrUnmapped, ErrReclaimed
}

func (e *UsedError) Error() string {
	if e.Err == ErrReclaimed {
		return fmt.Sprintf("driver queue %d is stopped: %v: reset it", e.Queue, e.Err)
	}
	return fmt.Sprintf("driver queue %d is broken by its device: used element %d, %s %d: %v: reset the device",
		e.Queue, e.At, e.Field, e.Value, e.Err)
}

func (e *UsedError) Unwrap() error { return e.Err }
