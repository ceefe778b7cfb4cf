package fabric

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Limits of one switch.
const (
	PortsMax    = 1024
	PairsMax    = 64
	DefaultMACs = 4096
	DefaultAge  = 300 * time.Second
)

// Options of a switch; zero values mean the defaults.
type Options struct {
	MACs int           // how many addresses are learned at most
	Age  time.Duration // how long an address that is not seen stays known
	Log  *slog.Logger
}

// Switch forwards frames between its ports.
type Switch struct {
	name   string
	log    *slog.Logger
	domain memtable.Domain
	fdb    *fdb
	start  time.Time

	mu    sync.Mutex
	ports atomic.Pointer[[]*Port] // by slot; replaced, never changed
}

// New makes a switch without ports.
func New(name string, o Options) *Switch {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Switch{
		name: name, log: o.Log, start: time.Now(),
		fdb: newFDB(cmp.Or(o.MACs, DefaultMACs), cmp.Or(o.Age, DefaultAge)),
	}
	s.ports.Store(new([]*Port))
	return s
}

// Name is what the switch was made with.
func (s *Switch) Name() string { return s.name }

// Domain is the domain of all workers that touch the switch's ports.
func (s *Switch) Domain() *memtable.Domain { return &s.domain }

// PortOptions describe a port.
type PortOptions struct {
	Name   string
	Pairs  int             // queue pairs, 1 to PairsMax; 0: 1
	Add    virtio.Features // offered beyond the default
	Remove virtio.Features // not offered
	MTU    uint16          // announced to the front-end; 0: not
}

// ErrPort is what AddPort refuses with.
var ErrPort = errors.New("port refused")

// AddPort makes a port; it can be used while others carry traffic.
func (s *Switch) AddPort(o PortOptions) (*Port, error) {
	if o.Pairs == 0 {
		o.Pairs = 1
	}
	if o.Pairs < 0 || o.Pairs > PairsMax {
		return nil, fmt.Errorf("%w: %s: %d queue pairs, not 1 to %d", ErrPort, o.Name, o.Pairs, PairsMax)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ports := slices.Clone(*s.ports.Load())
	if len(ports) >= PortsMax {
		return nil, fmt.Errorf("%w: %s: the switch has %d ports already", ErrPort, o.Name, PortsMax)
	}
	for _, p := range ports {
		if p.opts.Name == o.Name {
			return nil, fmt.Errorf("%w: two ports are named %q", ErrPort, o.Name)
		}
	}
	p := newPort(s, len(ports), o)
	ports = append(ports, p)
	s.ports.Store(&ports)
	return p, nil
}

// clock gives seconds since the switch was made, for ages.
func (s *Switch) clock() uint32 { return uint32(time.Since(s.start) / time.Second) }

// MACEntry is a learned address.
type MACEntry struct {
	MAC  net.HardwareAddr
	Port string
	Age  time.Duration
}

// MACs lists the learned addresses in their order.
func (s *Switch) MACs() []MACEntry {
	ports := *s.ports.Load()
	all := s.fdb.list(s.clock())
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.mac, b.mac) })
	list := make([]MACEntry, len(all))
	for i, e := range all {
		list[i] = MACEntry{e.mac.hardware(), ports[e.slot].opts.Name, time.Duration(e.age) * time.Second}
	}
	return list
}
