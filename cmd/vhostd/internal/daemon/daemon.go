package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/config"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/fabric"
	"github.com/vhostd/vhostd/vhost"
)

// Options say what to run. The ports have passed [config.Check].
type Options struct {
	Nets    []config.Net
	Blks    []config.Blk
	Switch  config.Switch
	Control config.Control
	Log     *slog.Logger
}

// Daemon is what was opened and can be run once.
type Daemon struct {
	log      *slog.Logger
	ports    []*port
	groups   []string // in the order of their first port
	switches map[string]*fabric.Switch
	control  *net.UnixListener
}

// Open makes the switches and all sockets, or none: after an error nothing is
// left open and no file is left behind.
func Open(o Options) (*Daemon, error) {
	d := &Daemon{log: o.Log, switches: make(map[string]*fabric.Switch)}
	if err := d.open(o); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Daemon) open(o Options) (err error) {
	for _, n := range o.Nets {
		sw, ok := d.switches[n.Group]
		if !ok {
			sw = fabric.New(n.Group, fabric.Options{
				MACs: o.Switch.MACs, Age: o.Switch.Age, Log: o.Log.With("group", n.Group),
			})
			d.switches[n.Group] = sw
			d.groups = append(d.groups, n.Group)
		}
		p, err := openPort(sw, n, o.Log.With("port", n.Name))
		if err != nil {
			return &config.Error{Origin: n.Origin, Port: n.Name, Err: err}
		}
		d.ports = append(d.ports, p)
	}
	for _, b := range o.Blks {
		p, err := openDisk(b, o.Log.With("disk", b.Name))
		if err != nil {
			return &config.Error{Origin: b.Origin, Port: b.Name, Err: err}
		}
		d.ports = append(d.ports, p)
	}
	// The last one: who can ask the daemon finds all its ports there.
	if d.control, err = listen(o.Control.Socket, o.Control.Perm, o.Control.Owner); err != nil {
		return fmt.Errorf("control socket (--control): %w", err)
	}
	return nil
}

// Run serves until ctx ends; then the sockets are gone. A port that cannot go
// on is told about and shown as failed; the others are not touched.
func (d *Daemon) Run(ctx context.Context) {
	defer d.Close()
	var all sync.WaitGroup
	for _, p := range d.ports {
		all.Go(func() { p.run(ctx) })
	}
	if err := control.Serve(ctx, d.control, d, d.log); err != nil {
		d.log.Error("the control socket cannot be served any more: restart to look at the ports again", "err", err)
	}
	all.Wait()
}

// Close lets go of the sockets and files of a daemon that was not run.
func (d *Daemon) Close() {
	if d.control != nil {
		d.control.Close()
	}
	for _, p := range d.ports {
		if p.listener != nil {
			p.listener.Close()
		}
		if p.disk != nil {
			p.disk.close()
		}
	}
}

// listen makes a socket for whom it is meant.
func listen(path string, perm os.FileMode, owner config.Owner) (*net.UnixListener, error) {
	uid, gid, err := owner.IDs()
	if err != nil {
		return nil, err
	}
	return vhost.Listen(path, vhost.ListenOptions{Mode: uint32(perm.Perm()), UID: uid, GID: gid})
}
