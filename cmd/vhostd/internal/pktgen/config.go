package pktgen

import (
	"fmt"
	"slices"
	"time"

	"github.com/vhostd/vhostd/cmd/vhostd/internal/backend"
	"github.com/vhostd/vhostd/memfd"
	"github.com/vhostd/vhostd/virtio"
	"github.com/vhostd/vhostd/virtio/vnet"
)

// Mode is what is done with frames.
type Mode string

// The modes.
const (
	Tx      Mode = "tx"      // send
	Rx      Mode = "rx"      // receive
	TxRx    Mode = "txrx"    // both: what is sent comes back, or not
	Reflect Mode = "reflect" // send back what is received, to where it came from
	RTT     Mode = "rtt"     // both, and measure how long it takes
)

// Config is what a run shall do.
type Config struct {
	backend.Address

	Mode     Mode
	Sizes    Sizes
	Flows    int           // in each queue
	Burst    int           // frames handled at once, at most
	Pairs    int           // of queues
	Ring     int           // descriptors of each queue
	Rate     float64       // frames a second, all queues together; 0: as fast as they go
	Count    uint64        // frames, all queues together; 0: no end
	Duration time.Duration // 0: no end
	Drain    time.Duration // how long frames are waited for that are on their way

	Check    bool // contents, order and number of the frames received
	Poll     bool // workers never park
	Dst, Src MAC  // zero: any, and the driver's own
	MTU      int  // bytes; 0: what Sizes need, if that is more than usual
	Buffer   int  // bytes of a buffer; 0: what Sizes need
	Without  []string
	Memory   memfd.Options
}

// Most that a run may have.
const (
	mostPairs = 128     // vhost-user numbers 256 rings
	mostFlows = 1 << 16 // that a frame has room to name
	mostBurst = 64
	mostRing  = 32768 // virtio 1.2, 2.7
)

// check says what is wrong with a configuration, and fills in what was left open.
func (c *Config) check() error {
	switch {
	case !slices.Contains([]Mode{Tx, Rx, TxRx, Reflect, RTT}, c.Mode):
		return fmt.Errorf("no mode is named %q: use tx, rx, txrx, reflect or rtt", c.Mode)
	case c.Pairs < 1 || c.Pairs > mostPairs:
		return fmt.Errorf("%d queue pairs: use 1 to %d", c.Pairs, mostPairs)
	case c.Flows < 1 || c.Flows*c.Pairs > mostFlows:
		return fmt.Errorf("%d flows in each of %d queues: use 1 to %d altogether", c.Flows, c.Pairs, mostFlows)
	case c.Burst < 1 || c.Burst > mostBurst:
		return fmt.Errorf("bursts of %d: use 1 to %d", c.Burst, mostBurst)
	case c.Ring < 4 || c.Ring > mostRing || c.Ring&(c.Ring-1) != 0:
		return fmt.Errorf("rings of %d: use a power of two from 4 to %d", c.Ring, mostRing)
	case c.Rate < 0:
		return fmt.Errorf("a rate of %v: use 0 for no limit", c.Rate)
	case len(c.Sizes) == 0:
		c.Sizes = Sizes{minFrame}
	}
	largest := slices.Max(c.Sizes)
	if c.MTU == 0 && c.sends() && largest > 1500+etherHeader {
		c.MTU = largest - etherHeader
	}
	if c.MTU != 0 && (c.MTU < 68 || c.MTU > 65535) {
		return fmt.Errorf("an MTU of %d: use 68 to 65535", c.MTU)
	}
	if c.Buffer == 0 {
		c.Buffer = max(2048, (max(largest, c.MTU+etherHeader)+vnet.Headroom+63)&^63)
	}
	if c.sends() && c.Buffer < largest+vnet.Headroom {
		return fmt.Errorf("buffers of %d bytes for frames of %d: use %d or more", c.Buffer, largest, largest+vnet.Headroom)
	}
	return nil
}

// sends says whether there are workers that send.
func (c *Config) sends() bool { return c.Mode == Tx || c.Mode == TxRx || c.Mode == RTT }

// receives says whether there are workers that receive.
func (c *Config) receives() bool { return c.Mode == Rx || c.Mode == TxRx || c.Mode == RTT }

// features are what the driver asks for.
func (c *Config) features() (virtio.Features, error) {
	f := vnet.DefaultFeatures
	for _, name := range c.Without {
		bit, err := virtio.ParseFeature(virtio.Net, name)
		if err != nil {
			return 0, err
		}
		f &^= bit
	}
	return f, nil
}
