package memfd

import "errors"

var (
	// ErrSize says that a size, an alignment or a bound is one that nothing
	// could have, however much memory there were.
	ErrSize = errors.New("no such size, alignment or bound")
	// ErrForeign says that what was given back was not lent here.
	ErrForeign = errors.New("the memory was not lent here")
	// ErrFreed says that what was given back had been given back before.
	ErrFreed = errors.New("the memory was given back before")
	// ErrExists says that there is one of that name.
	ErrExists = errors.New("the name is in use")
	// ErrName says that a name is empty or longer than MaxName.
	ErrName = errors.New("no such name")
)

// MaxName is how many bytes the name of a heap, zone or pool may have.
const MaxName = 63
