package main

import (
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/backend"
)

// reach is how tools that are front-ends are told where their back-end is.
type reach struct {
	Socket string        `arg:"" help:"The back-end's socket."`
	Listen bool          `help:"Listen at the socket, for a back-end that connects to it."`
	Wait   time.Duration `default:"5s" help:"How long to wait for the back-end; 0: for ever."`
}

// Address gives what was said.
func (r reach) Address() backend.Address { return backend.Address(r) }
