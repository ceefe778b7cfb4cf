package memfd

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

var (
	// ErrPrimary says that the primary has ended, or has given the secondary
	// up. What is mapped stays mapped until Secondary.Close.
	ErrPrimary = errors.New("the primary is gone")
	// ErrDetached says that the secondary has been closed.
	ErrDetached = errors.New("the secondary is closed")
	// ErrNoZone says that there is no zone of that name.
	ErrNoZone = errors.New("there is no such zone")
	// ErrNotAttached says that a secondary has no part of the external memory
	// that something lies in.
	ErrNotAttached = errors.New("the external memory is not attached here: use Secondary.AttachExternal")
	// ErrHung says that a secondary did not answer within the deadline.
	ErrHung = errors.New("it did not answer within the deadline")
)

// SecondaryError says which secondary could not follow, or holds memory.
type SecondaryError struct {
	Name string
	PID  int
	Err  error
}

func (e *SecondaryError) Error() string {
	return fmt.Sprintf("secondary %q (pid %d): %v", e.Name, e.PID, e.Err)
}

func (e *SecondaryError) Unwrap() error { return e.Err }

// PeerError is an error that happened in the other process. It wraps what it
// was there, if that is an error of this package.
type PeerError struct {
	Text string
	Err  error // ErrSize, ErrBusy, *ShortageError …; nil: some other
}

func (e *PeerError) Error() string { return e.Text }

func (e *PeerError) Unwrap() error { return e.Err }

// told are the errors that have a number between processes, from 2 on: 0 is
// success, 1 any other error, and tellShortage a *ShortageError.
var told = []error{ErrClosed, ErrBusy, ErrSize, ErrForeign, ErrFreed, ErrExists, ErrName, ErrNoZone, ErrHung,
	ErrOverlap, ErrNoFile, ErrUnknown, ErrNotAttached}

const (
	tellNothing  = 0
	tellOther    = 1
	tellShortage = 0xffff
)

// encodeError writes an error for the other process, or none.
func encodeError(e *encoder, err error) {
	if err == nil {
		e.u16(tellNothing)
		return
	}
	if s, ok := errors.AsType[*ShortageError](err); ok {
		e.u16(tellShortage)
		e.text(err.Error())
		e.text(s.What)
		e.u32(uint32(int32(s.Node)))
		e.u64(s.Want)
		e.u64(s.Have)
		e.text(s.Advice)
		return
	}
	code := tellOther
	for i, known := range told {
		if errors.Is(err, known) {
			code = i + 2
			break
		}
	}
	e.u16(uint16(code))
	e.text(err.Error())
}

// decodeError reads what encodeError wrote.
func decodeError(d *decoder) error {
	code := int(d.u16())
	if code == tellNothing {
		return nil
	}
	e := &PeerError{Text: printable(d.text())}
	switch {
	case code == tellShortage:
		e.Err = &ShortageError{What: printable(d.text()), Node: int(int32(d.u32())), Want: d.u64(), Have: d.u64(),
			Advice: printable(d.text())}
	case code > len(told)+1:
		d.bad = true
	case code != tellOther:
		e.Err = told[code-2]
	}
	return e
}

// printable makes one line of what another process wrote, for logs.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}
