package config

import (
	"fmt"
	"strings"
)

// Error is a mistake in what the operator wrote: where, in which port, in which
// option. Parts that are not known are empty.
type Error struct {
	Origin string // "--net" or "vhostd.toml:12:3"
	Port   string
	Option string
	Err    error
}

// Error names the place first, the way compilers do.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Origin != "" {
		fmt.Fprintf(&b, "%s: ", e.Origin)
	}
	if e.Port != "" {
		fmt.Fprintf(&b, "port %q: ", e.Port)
	}
	if e.Option != "" {
		fmt.Fprintf(&b, "option %s: ", e.Option)
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }
