package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/probe"
	"github.com/vhostd/vhostd/vhost"
)

// probeCommand asks a back-end what it can do.
type probeCommand struct {
	Socket  string        `arg:"" help:"The back-end's socket."`
	Listen  bool          `help:"Listen at the socket, for a back-end that connects to it."`
	Device  string        `placeholder:"net|blk|rng|vsock|fs" help:"What it is. Default: guessed from its answers."`
	Timeout time.Duration `default:"3s" help:"How long an answer may take."`
	JSON    bool          `name:"json" help:"Exact numbers, for programs."`
}

// Run asks and prints.
func (p *probeCommand) Run(ctx context.Context, o *output) error {
	id, err := probe.ParseDevice(p.Device)
	if err != nil {
		return err
	}
	open, done, err := p.opener()
	if err != nil {
		return err
	}
	defer done()
	r, err := probe.Run(ctx, open, id)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Socket, err)
	}
	if p.JSON {
		e := json.NewEncoder(o.out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return r.Print(o.out)
}

// opener gives what makes connections, and what ends that.
func (p *probeCommand) opener() (open func(context.Context) (*vhost.Conn, error), done func(), err error) {
	if !p.Listen {
		return func(ctx context.Context) (*vhost.Conn, error) { return vhost.DialConn(ctx, p.Socket, p.Timeout) }, func() {}, nil
	}
	l, err := vhost.Listen(p.Socket, vhost.ListenOptions{UID: -1, GID: -1})
	if err != nil {
		return nil, nil, err
	}
	again := false
	return func(ctx context.Context) (*vhost.Conn, error) {
		// The first is waited for as long as the operator likes. One that hung up
		// comes again soon, or not at all.
		if again {
			_ = l.SetDeadline(time.Now().Add(p.Timeout))
		}
		again = true
		stop := context.AfterFunc(ctx, func() { _ = l.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, fmt.Errorf("no back-end has connected: %w", err)
		}
		return vhost.NewConn(c, p.Timeout), nil
	}, func() { l.Close() }, nil
}
