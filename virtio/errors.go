package virtio

import (
	"errors"
	"fmt"
)

// Why a chain costs itself (contract: the head goes back with length 0).
var (
	errLoop      = errors.New("chain longer than the ring")
	errNext      = errors.New("next beyond the table")
	errNested    = errors.New("indirect inside indirect")
	errBoth      = errors.New("indirect and next in one descriptor")
	errNoFeature = errors.New("indirect was not negotiated")
	errTable     = errors.New("indirect table of bad length")
	errMemory    = errors.New("address outside guest memory")
	errDir       = errors.New("descriptor of the wrong direction")
	errLong      = errors.New("chain longer than 4 GiB")
	errEmpty     = errors.New("chain without a byte")
	errPieces    = errors.New("chain in too many pieces")
)

// chainErrors gives each reason its counter.
var chainErrors = [...]error{
	errLoop, errNext, errNested, errBoth, errNoFeature, errTable, errMemory, errDir, errLong, errEmpty, errPieces,
}

// Why a ring is broken.
var (
	ErrHead  = errors.New("head beyond the descriptor table")
	ErrIndex = errors.New("available index further than the ring is long")
	ErrAbuse = errors.New("too many bad chains in a row")
)

// RingError says why a ring is broken: the device no longer touches it until
// the driver resets it.
type RingError struct {
	Queue int
	Head  uint16 // the head or index that broke it
	Op    string // what the device was doing
	Err   error  // ErrHead, ErrIndex, ErrAbuse
}

func (e *RingError) Error() string {
	return fmt.Sprintf("ring %d is broken: %s %d: %v", e.Queue, e.Op, e.Head, e.Err)
}

func (e *RingError) Unwrap() error { return e.Err }
