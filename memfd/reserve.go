package memfd

import "fmt"

// reserve takes size bytes of address space that begin at a multiple of align,
// a power of two, and holds no memory in them.
func reserve(k kernel, size, align uint64) ([]byte, error) {
	raw, err := k.reserve(size + align)
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
