package vnet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vhostd/vhostd/memtable"
	"github.com/vhostd/vhostd/virtio"
)

// Driver drives a network device. It brings the device up, keeps it up when it
// is lost and comes back or lies about a ring, and answers what is asked of it;
// frames go through Tx and Rx. Its methods may be called from any goroutine.
type Driver struct {
	cfg      DriverConfig
	t        virtio.Transport
	features virtio.Features // agreed on
	merged   bool            // MRG_RXBUF
	tx       []*Tx
	rx       []*Rx
	memory   []memtable.Buf // of rings and headers

	ctl     sync.Mutex // held over what control does with the device, one at a time
	control control
	filter  atomic.Pointer[filter] // nil: everything is received

	pairing chan struct{}   // held over SetPairs
	broken  chan struct{}   // a ring is to be restarted
	retry   chan struct{}   // the device is to be reset
	ctx     context.Context // ends when the driver closes
	cancel  context.CancelFunc
	done    chan struct{} // its goroutine has ended

	mu    sync.Mutex
	state state
}

// state is what is known of the device; Driver.mu's.
type state struct {
	Config
	mac     [6]byte
	present bool // the device is there and started
	gone    bool // it touches no memory
	closing bool // for good
	pairs   int  // in use
	sending int  // pairs that may send: fewer than in use while some go out of use
	changed chan struct{}

	lost, restarts uint64
}

// Open brings the device up: features, rings, buffers to receive in, and the
// first frames may come. An error leaves the device reset and nothing lent: to
// have all back, Open waits for a device that does not answer beyond the end of
// ctx, for some seconds.
func Open(ctx context.Context, cfg DriverConfig) (*Driver, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("network driver: %w", err)
	}
	d := &Driver{
		cfg: cfg, t: cfg.Transport, done: make(chan struct{}),
		pairing: make(chan struct{}, 1), broken: make(chan struct{}, 1), retry: make(chan struct{}, 1),
	}
	d.state.changed = make(chan struct{})
	d.state.pairs, d.state.sending = cfg.Pairs, cfg.Pairs
	if d.features, err = cfg.choose(d.t.Features()); err == nil {
		err = d.open(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("network driver: %w", err)
	}
	d.ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if p, ok := d.t.(virtio.PausingTransport); ok {
		p.SetPauser(d)
	}
	go d.live()
	return d, nil
}

// open is Open once it is known what to agree on.
func (d *Driver) open(ctx context.Context) (err error) {
	d.merged = d.features.Has(FeatureMrgRxbuf)
	d.readConfig(ctx)
	if d.state.mac = d.cfg.MAC; d.state.mac == [6]byte{} {
		d.state.mac = d.state.Config.MAC
	}
	if d.state.mac == [6]byte{} {
		_, _ = rand.Read(d.state.mac[:])
		d.state.mac[0] = d.state.mac[0]&^1 | 2 // one's own, and administered locally
	}
	d.control = newLocalControl(d.state.mac, &d.filter, d.usePairs)
	if err = d.makeRings(ctx); err != nil {
		return errors.Join(err, d.freeRings())
	}
	if err = d.accept(ctx); err == nil {
		err = d.tryBuffers()
	}
	if err == nil {
		err = d.serve(ctx, false)
	}
	if err == nil {
		return nil
	}
	if e := d.giveUp(ctx); e != nil {
		return errors.Join(err, fmt.Errorf("the device keeps its rings, and what was lent to it: %w", e))
	}
	d.reclaim()
	return errors.Join(err, d.freeRings())
}

// patience is how long a device that failed in Open may take to let go.
const patience = 15 * time.Second

// giveUp returns when the device uses nothing any more: it was reset, or is gone.
func (d *Driver) giveUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	err := d.t.Reset(ctx)
	for err != nil {
		select {
		case e, ok := <-d.t.Events():
			if !ok || e.Kind == virtio.Lost {
				return nil
			}
		case <-ctx.Done():
			return err
		}
	}
	return nil
}

// accept agrees on the features, with a device that is new or was reset.
func (d *Driver) accept(ctx context.Context) error {
	if m, ok := d.t.(mtuTeller); ok && d.cfg.MTU != 0 {
		if err := m.SetMTU(ctx, d.cfg.MTU); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return fmt.Errorf("MTU %d: %w", d.cfg.MTU, err)
		}
	}
	return d.t.Accept(ctx, d.features)
}

// mtuTeller is a transport that tells its device the driver's MTU (vhost-user,
// NET_SET_MTU).
type mtuTeller interface {
	SetMTU(ctx context.Context, mtu uint16) error
}

// readConfig reads the configuration space, as far as there is one: a back-end
// that does not tell it leaves the driver with what holds for all devices.
func (d *Driver) readConfig(ctx context.Context) {
	var raw [ConfigBytes]byte
	f := d.features
	if err := d.t.ReadConfig(ctx, 0, raw[:]); err != nil {
		f = 0
	}
	c := ParseConfig(&raw, f)
	c.MTU = max(c.MTU, d.cfg.MTU)
	if told := ParseConfig(&raw, f).MTU; told != 0 && d.cfg.MTU != 0 {
		c.MTU = min(told, d.cfg.MTU)
	}
	if c.MTU == 0 {
		c.MTU = mtuDefault
	}
	d.edit(func(s *state) { s.Config = c })
}

// mtuDefault is Ethernet's.
const mtuDefault = 1500

// edit changes the state.
func (d *Driver) edit(change func(*state)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.state)
	close(d.state.changed)
	d.state.changed = make(chan struct{})
}

// now gives a copy of the state.
func (d *Driver) now() state {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// Features are what was agreed on with the device.
func (d *Driver) Features() virtio.Features { return d.features }

// Pairs is how many queue pairs there are, in use or not.
func (d *Driver) Pairs() int { return d.cfg.Pairs }

// Tx gives the transmit queue of pair i.
func (d *Driver) Tx(i int) *Tx { return d.tx[i] }

// Rx gives the receive queue of pair i.
func (d *Driver) Rx(i int) *Rx { return d.rx[i] }

// MTU is the largest payload of a frame, in bytes, without the Ethernet header.
func (d *Driver) MTU() uint16 { return d.now().MTU }

// MAC is the driver's own address.
func (d *Driver) MAC() [6]byte { return d.now().mac }

// Link says whether frames can go, and how fast: in Mbit/s, or [SpeedUnknown].
func (d *Driver) Link() (up bool, speed uint32) {
	s := d.now()
	return s.present && s.LinkUp, s.Speed
}
