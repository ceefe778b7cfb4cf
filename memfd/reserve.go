package memfd

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// reserve takes size bytes of address space that begin at a multiple of align,
// a power of two, and holds no memory in them.
func reserve(k kernel, size, align uint64) ([]byte, error) {
	raw, err := k.reserve(0, size+align)
	if err != nil {
		return nil, &ShortageError{What: "address space", Node: AnyNode, Want: size, Err: err,
			Advice: "set Options.Space to less, or allow more (ulimit -v)"}
	}
	// What is too much goes back, in front and behind. What was unmapped is at
	// once anybody's, so of a reservation that fails only the rest is unmapped.
	lead := -addressOf(raw) & (align - 1)
	rest := raw
	if lead > 0 {
		if err := k.unmap(rest[:lead]); err != nil {
			_ = k.unmap(rest)
			return nil, fmt.Errorf("aligning a reservation: %w", err)
		}
		rest = rest[lead:]
	}
	if uint64(len(rest)) > size {
		if err := k.unmap(rest[size:]); err != nil {
			_ = k.unmap(rest)
			return nil, fmt.Errorf("aligning a reservation: %w", err)
		}
	}
	return rest[:size:size], nil
}

// reserveAt takes size bytes of address space at the first multiple of align, a
// power of two, that is not below base.
func reserveAt(k kernel, base, size, align uint64) ([]byte, error) {
	if base > math.MaxUint64-align {
		return nil, fmt.Errorf("memfd: there is no address space from 0x%x on: set Options.Base to less", base)
	}
	at := (base + align - 1) &^ (align - 1)
	mem, err := k.reserve(at, size)
	if err == nil {
		return mem, nil
	}
	short := &ShortageError{What: fmt.Sprintf("address space from 0x%x on", at), Node: AnyNode, Want: size, Err: err,
		Advice: "set Options.Space to less, or allow more (ulimit -v)"}
	if errors.Is(err, unix.EEXIST) {
		short.Advice = "something else is mapped there (see /proc/self/maps): set Options.Base to another address, " +
			"or to 0 if no other process must have the memory at the same one"
	}
	return nil, short
}
