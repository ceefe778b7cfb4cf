package main

import (
	"cmp"
	"context"
	"encoding/json"
	"io"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/view"
)

// showCommand is what can be looked at.
type showCommand struct {
	Ports    showPorts    `cmd:"" help:"Ports, and who is attached."`
	Mem      showMem      `cmd:"" help:"Memory that front-ends share."`
	Queues   showQueues   `cmd:"" help:"Features and rings, as both sides see them."`
	Mac      showMAC      `cmd:"" help:"Learned addresses."`
	Stats    showStats    `cmd:"" help:"Frames, bytes and drops."`
	Disks    showDisks    `cmd:"" help:"Disks, and what was done with them."`
	Messages showMessages `cmd:"" help:"The last messages of a front-end, decoded."`
}

type (
	showPorts    struct{ question }
	showMem      struct{ question }
	showQueues   struct{ question }
	showMAC      struct{ question }
	showStats    struct{ question }
	showDisks    struct{ question }
	showMessages struct{ question }
)

// question is what all of them take.
type question struct {
	Port    string `arg:"" optional:"" help:"Only this port."`
	JSON    bool   `name:"json" help:"Exact numbers, for programs."`
	Control string `placeholder:"SOCKET" help:"The daemon's control socket. Default: vhostd.sock in $XDG_RUNTIME_DIR or /run."`
}

// Run shows ports.
func (s *showPorts) Run(ctx context.Context, o *output) error {
	return show(ctx, o, s.question, "ports", view.Ports)
}

// Run shows memory.
func (s *showMem) Run(ctx context.Context, o *output) error {
	return show(ctx, o, s.question, "mem", view.Memory)
}

// Run shows queues.
func (s *showQueues) Run(ctx context.Context, o *output) error {
	return show(ctx, o, s.question, "queues", view.Queues)
}

// Run shows learned addresses.
func (s *showMAC) Run(ctx context.Context, o *output) error {
	return show(ctx, o, s.question, "mac", view.MACs)
}

// Run shows counters.
func (s *showStats) Run(ctx context.Context, o *output) error {
	return show(ctx, o, s.question, "stats", view.Stats)
}

// Run shows disks.
func (s *showDisks) Run(ctx context.Context, o *output) error {
	return show(ctx, o, s.question, "disks", view.Disks)
}

// Run shows messages.
func (s *showMessages) Run(ctx context.Context, o *output) error {
	return show(ctx, o, s.question, "messages", view.Messages)
}

// show asks the daemon for what, and prints the answer as JSON or as lay does.
func show[T any](ctx context.Context, o *output, q question, what string, lay func(io.Writer, control.List[T]) error) error {
	c := control.NewClient(cmp.Or(q.Control, control.DefaultSocket()))
	list, err := control.Get[T](ctx, c, what, q.Port)
	if err != nil {
		return err
	}
	if q.JSON {
		e := json.NewEncoder(o.out)
		e.SetIndent("", "  ")
		return e.Encode(list)
	}
	return lay(o.out, list)
}
