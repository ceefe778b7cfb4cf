package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/config"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
	"github.com/vhostd/vhostd/cmd/vhostd/internal/fabric"
	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// port is a port of a switch, or a disk, with the server that front-ends reach it
// by. A disk has no group, address, MTU or list of features.
type port struct {
	config.Net
	fabric   *fabric.Port // nil: a disk
	disk     *disk        // nil: a port of a switch
	server   *vhost.Server
	listener *net.UnixListener // nil: client
	log      *slog.Logger

	mu       sync.Mutex
	idle     time.Time // since there is no front-end
	connects uint64
	last     *control.Failure
	failed   bool // the server ended
}

// openPort adds a port to sw and opens its socket.
func openPort(sw *fabric.Switch, n config.Net, log *slog.Logger) (*port, error) {
	p := &port{Net: n, log: log, idle: time.Now()}
	var err error
	p.fabric, err = sw.AddPort(fabric.PortOptions{
		Name: n.Name, Pairs: n.Queues, Add: n.Features.Add, Remove: n.Features.Remove, MTU: n.MTU,
	})
	if err != nil {
		return nil, err
	}
	return p, p.open(p.fabric, vhost.Events(sw.Domain()), 0)
}

// open makes the socket, if it is ours to make, and the server of device.
func (p *port) open(device vhost.Device, r vhost.Runner, timeout time.Duration) (err error) {
	if p.Mode == config.Server {
		if p.listener, err = listen(p.Socket, p.Perm, p.Owner); err != nil {
			return err
		}
	}
	p.server = &vhost.Server{
		Device: device, Runner: r, Log: p.log, Timeout: timeout,
		Hooks: vhost.Hooks{Connected: p.connected, Disconnected: p.disconnected, Failed: p.fail},
	}
	return nil
}

// session is the front-end that is there, or nil.
func (p *port) session() *vhost.Session {
	if p.disk != nil {
		return p.disk.session.Load()
	}
	return p.fabric.Session()
}

// run serves front-ends until ctx ends.
func (p *port) run(ctx context.Context) {
	var err error
	if p.listener != nil {
		err = p.server.Serve(ctx, p.listener)
	} else {
		err = p.server.DialAndServe(ctx, p.Socket)
	}
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		err = errors.New("the server ended")
	}
	p.log.Error("the port cannot be served any more: restart the daemon", "err", err)
	p.fail(err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = true
}

func (p *port) connected(*vhost.Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connects++
}

func (p *port) disconnected(_ *vhost.Session, err error) {
	if err != nil {
		p.fail(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = time.Now()
}

func (p *port) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = &control.Failure{At: time.Now(), Error: err.Error()}
}

// info is the front-end's, if there is one; with resident its pages in memory
// are counted too, which takes time.
func (p *port) info(resident bool) (vhost.Info, bool) {
	s := p.session()
	if s == nil {
		return vhost.Info{}, false
	}
	i := s.Info()
	if resident {
		s.Resident(i.Memory.Regions)
	}
	return i, true
}

// id says what kind of device it is.
func (p *port) id() virtio.DeviceID {
	if p.disk != nil {
		return virtio.Block
	}
	return virtio.Net
}
