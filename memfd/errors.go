package memfd

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed says that the arena is closed.
	ErrClosed = errors.New("the arena is closed")
	// ErrBusy says that memory is still in use, or still reachable for a
	// mirror that did not let go of it.
	ErrBusy = errors.New("memory is still in use")
)

// ShortageError says that there is not enough of something. Nothing was
// allocated and nothing else changed.
type ShortageError struct {
	What   string // that is short: "huge pages of 2 MiB", "address space", "limit", …
	Node   int    // NUMA node; -1: whichever
	Want   uint64 // bytes asked for
	Have   uint64 // bytes there are; 0 may also mean that nobody knows
	Advice string // what to change
	Err    error  // of the system call, if one failed
}

func (e *ShortageError) Error() string {
	s := fmt.Sprintf("not enough of %s", e.What)
	if e.Node >= 0 {
		s += fmt.Sprintf(" on NUMA node %d", e.Node)
	}
	s += fmt.Sprintf(": %s wanted, %s there", bytesText(e.Want), bytesText(e.Have))
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + ": " + e.Advice
}

func (e *ShortageError) Unwrap() error { return e.Err }

// RefusedError says that somebody who has a say in it did not want the arena
// to grow: a validator, or a mirror that cannot reach the new memory.
type RefusedError struct {
	By  string // "validator …" or "mirror"
	Err error
}

func (e *RefusedError) Error() string { return "growing was refused by " + e.By + ": " + e.Err.Error() }

func (e *RefusedError) Unwrap() error { return e.Err }

// bytesText writes a size for people, without losing any of it.
func bytesText(n uint64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	for n >= 1024 && n%1024 == 0 && len(units) > 1 {
		n, units = n/1024, units[1:]
	}
	return fmt.Sprintf("%d %s", n, units[0])
}
