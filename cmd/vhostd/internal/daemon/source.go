package daemon

import (
	"github.com/vhostd/vhostd/cmd/vhostd/internal/control"
	"github.com/vhostd/vhostd/vhost"
)

var _ control.Source = (*Daemon)(nil)

// Names implements [control.Source].
func (d *Daemon) Names() []string {
	var names []string
	for _, p := range d.ports {
		names = append(names, p.Name)
	}
	return names
}

// each makes a list of what get tells about the named port, or with "" all.
func each[T any](d *Daemon, name string, get func(*port) (T, bool)) []T {
	var list []T
	for _, p := range d.ports {
		if name != "" && name != p.Name {
			continue
		}
		if item, ok := get(p); ok {
			list = append(list, item)
		}
	}
	return list
}

// Ports implements [control.Source].
func (d *Daemon) Ports(name string) []control.Port {
	return each(d, name, func(p *port) (control.Port, bool) {
		info, there := p.info(false)
		return p.describe(info, there), true
	})
}

// Memory implements [control.Source].
func (d *Daemon) Memory(name string) []control.Memory {
	return each(d, name, func(p *port) (control.Memory, bool) {
		info, there := p.info(true)
		return memoryOf(p.Name, info), there
	})
}

// Queues implements [control.Source].
func (d *Daemon) Queues(name string) []control.Queues {
	return each(d, name, func(p *port) (control.Queues, bool) {
		info, there := p.info(false)
		return queuesOf(p.id(), p.describe(info, there), info), true
	})
}

// Messages implements [control.Source].
func (d *Daemon) Messages(name string) []control.Messages {
	return each(d, name, func(p *port) (control.Messages, bool) {
		info, there := p.info(false)
		m := control.Messages{Port: p.Name, Peer: info.Peer}
		for _, one := range info.Messages {
			m.Messages = append(m.Messages, control.Message(one))
		}
		return m, there
	})
}

// MACs implements [control.Source].
func (d *Daemon) MACs(name string) []control.MAC {
	var list []control.MAC
	for _, group := range d.groups {
		for _, e := range d.switches[group].MACs() {
			if name == "" || name == e.Port {
				list = append(list, control.MAC{Group: group, MAC: e.MAC.String(), Port: e.Port, Age: e.Age.Seconds()})
			}
		}
	}
	return list
}

// Stats implements [control.Source].
func (d *Daemon) Stats(name string) []control.Stats {
	return each(d, name, func(p *port) (control.Stats, bool) {
		if p.disk != nil {
			return control.Stats{}, false
		}
		s := p.fabric.Stats()
		stats := control.Stats{Port: p.Name, Counts: control.Counts(s.Counts), Drops: s.Drops}
		for _, q := range s.Queues {
			stats.Pairs = append(stats.Pairs, control.PairStats{Pair: q.Pair, Counts: control.Counts(q.Counts)})
		}
		return stats, true
	})
}

// describe puts together what is configured, what happened, and who is there.
func (p *port) describe(info vhost.Info, there bool) control.Port {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := control.Port{
		Name: p.Name, Group: p.Group, Socket: p.Socket, Role: p.Mode.String(), MTU: p.MTU,
		State: control.Listening, Since: p.idle, Connects: p.connects, LastError: p.last,
		Offered: bits(p.id(), 0), Features: bits(p.id(), 0),
	}
	switch {
	case there:
		c.State, c.Since, c.Peer = stateOf(info), info.Since, info.Peer
		c.Offered, c.Features = bits(p.id(), info.Offered), bits(p.id(), info.Features)
		if info.MTU != 0 {
			c.MTU = info.MTU
		}
	case p.failed:
		c.State = control.Failed
	case p.listener == nil:
		c.State = control.Dialling
	}
	return c
}
