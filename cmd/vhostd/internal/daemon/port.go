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
)

// port is a port of a switch with the server that front-ends reach it by.
type port struct {
	config.Net
	fabric   *fabric.Port
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
	if n.Mode == config.Server {
		if p.listener, err = listen(n.Socket, n.Perm, n.Owner); err != nil {
			return nil, err
		}
	}
	p.server = &vhost.Server{
		Device: p.fabric, Runner: vhost.Events(sw.Domain()), Log: log,
		Hooks: vhost.Hooks{Connected: p.connected, Disconnected: p.disconnected, Failed: p.fail},
	}
	return p, nil
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
	s := p.fabric.Session()
	if s == nil {
		return vhost.Info{}, false
	}
	i := s.Info()
	if resident {
		s.Resident(i.Memory.Regions)
	}
	return i, true
}
