package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/attach"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/config"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/daemon"
)

// serveCommand is the daemon's flags. None has a default of kong's, so that one
// that was given can be told from one that was not: flags win over the file.
type serveCommand struct {
	Net          []string      `sep:"none" placeholder:"NAME=SOCKET[,option=value]…" help:"A port; give it once per port. Options: mode=server|client (who listens: vhostd or QEMU), mac=ADDRESS, queues=PAIRS, owner=USER[:GROUP], group=NAME (only ports of a group are switched together), perm=0660, mtu=BYTES, features=+name,-name."`
	Blk          []string      `sep:"none" placeholder:"NAME=SOCKET,file=DISK[,option=value]…" help:"A disk; give it once per disk. DISK is a raw image or a block device. Options: ro, direct (past the page cache), serial=TEXT, queues=N, mode=server|client, owner=USER[:GROUP], perm=0660."`
	Config       string        `placeholder:"FILE.toml" help:"More ports, and settings that flags can change."`
	Control      string        `placeholder:"SOCKET" help:"Where vhostd show finds this daemon. Default: vhostd.sock in $XDG_RUNTIME_DIR or /run."`
	ControlPerm  string        `placeholder:"0600" help:"Mode of the control socket, 0600 to 0660."`
	ControlOwner string        `placeholder:"USER[:GROUP]" help:"Owner of the control socket."`
	MacLimit     int           `placeholder:"4096" help:"How many MAC addresses a group learns at most."`
	MacAge       time.Duration `placeholder:"5m" help:"After which time an unused MAC address is forgotten."`
	LogLevel     string        `placeholder:"info" help:"debug, info, warn or error."`
	LogFormat    string        `placeholder:"text" help:"text or json."`
}

// Run opens everything, says how guests are attached, and serves until ctx ends.
func (s *serveCommand) Run(ctx context.Context, o *output) error {
	f, err := s.settings()
	if err != nil {
		return err
	}
	log, err := logger(o.err, f.Log)
	if err != nil {
		return err
	}
	d, err := daemon.Open(daemon.Options{Nets: f.Nets, Blks: f.Blks, Switch: f.Switch, Control: f.Control, Log: log})
	if err != nil {
		return err
	}
	if err := attach.Write(o.out, f.Nets, f.Blks); err != nil {
		d.Close()
		return fmt.Errorf("standard output: %w", err)
	}
	log.Info("serving", "ports", len(f.Nets), "disks", len(f.Blks), "control", f.Control.Socket)
	d.Run(ctx)
	log.Info("ended, sockets are removed")
	return nil
}

// settings are the file's, changed by the flags, and checked as a whole.
func (s *serveCommand) settings() (*config.File, error) {
	f := new(config.File)
	var err error
	if s.Config != "" {
		if f, err = config.Load(s.Config); err != nil {
			return nil, err
		}
	}
	if err := s.control(&f.Control); err != nil {
		return nil, err
	}
	if s.MacLimit < 0 || s.MacAge < 0 {
		return nil, fmt.Errorf("--mac-limit and --mac-age cannot be negative")
	}
	f.Switch.MACs = cmp.Or(s.MacLimit, f.Switch.MACs)
	f.Switch.Age = cmp.Or(s.MacAge, f.Switch.Age)
	f.Log.Level = cmp.Or(s.LogLevel, f.Log.Level, "info")
	f.Log.Format = cmp.Or(s.LogFormat, f.Log.Format, "text")
	for _, text := range s.Net {
		n, err := config.ParseNet(text)
		if err != nil {
			return nil, err
		}
		f.Nets = append(f.Nets, n)
	}
	for _, text := range s.Blk {
		b, err := config.ParseBlk(text)
		if err != nil {
			return nil, err
		}
		f.Blks = append(f.Blks, b)
	}
	return f, config.Check(f.Nets, f.Blks, f.Control.Socket)
}

// control completes where and for whom the control socket is.
func (s *serveCommand) control(c *config.Control) (err error) {
	c.Socket = cmp.Or(s.Control, c.Socket, control.DefaultSocket())
	if c.Socket, err = filepath.Abs(c.Socket); err != nil {
		return fmt.Errorf("--control: %w", err)
	}
	if s.ControlPerm != "" {
		if c.Perm, err = config.ParsePerm(s.ControlPerm); err != nil {
			return fmt.Errorf("--control-perm: %w", err)
		}
	}
	c.Perm = cmp.Or(c.Perm, 0o600)
	if s.ControlOwner != "" {
		if c.Owner, err = config.ParseOwner(s.ControlOwner); err != nil {
			return fmt.Errorf("--control-owner: %w", err)
		}
	}
	return nil
}

// logger writes to w as l says.
func logger(w io.Writer, l config.Log) (*slog.Logger, error) {
	level, err := config.ParseLevel(l.Level)
	if err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	o := &slog.HandlerOptions{Level: level}
	switch l.Format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	}
	return nil, fmt.Errorf("--log-format: %q is neither text nor json", l.Format)
}
