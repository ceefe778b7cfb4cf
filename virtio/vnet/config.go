package vnet

import (
	"encoding/binary"

	"github.com/vhostd/vhostd/virtio"
)

// Feature bits about the configuration space and the control queue (virtio 1.2,
// 5.1.3).
const (
	FeatureCtrlGuestOffloads virtio.Features = 1 << 2
	FeatureMAC               virtio.Features = 1 << 5
	FeatureStatus            virtio.Features = 1 << 16
	FeatureCtrlVQ            virtio.Features = 1 << 17
	FeatureCtrlRX            virtio.Features = 1 << 18
	FeatureCtrlVLAN          virtio.Features = 1 << 19
	FeatureCtrlRXExtra       virtio.Features = 1 << 20
	FeatureCtrlMACAddr       virtio.Features = 1 << 23
	FeatureSpeedDuplex       virtio.Features = 1 << 63
)

// ConfigBytes is how much of the configuration space [ParseConfig] reads.
const ConfigBytes = 17

// Status bits of the configuration space.
const (
	StatusLinkUp   = 1
	StatusAnnounce = 2
)

// SpeedUnknown is the speed of who does not know it.
const SpeedUnknown = 1<<32 - 1

// Config is the configuration space (virtio 1.2, 5.1.4). What the features do
// not vouch for has the value that holds then.
type Config struct {
	MAC        [6]byte // zero: the driver chooses
	LinkUp     bool
	Announce   bool   // the driver shall say who it is
	MaxPairs   int    // of queues
	MTU        uint16 // 0: not told
	Speed      uint32 // Mbit/s; SpeedUnknown
	FullDuplex bool
}

// ParseConfig reads what a device with features f says, from offset 0 on.
func ParseConfig(b *[ConfigBytes]byte, f virtio.Features) Config {
	c := Config{LinkUp: true, MaxPairs: 1, Speed: SpeedUnknown}
	if f.Has(FeatureMAC) {
		copy(c.MAC[:], b[0:])
	}
	if f.Has(FeatureStatus) {
		status := binary.LittleEndian.Uint16(b[6:])
		c.LinkUp, c.Announce = status&StatusLinkUp != 0, status&StatusAnnounce != 0
	}
	if f.Has(FeatureMQ) {
		// The most a driver can ask for is 0x8000 (virtio 1.2, 5.1.6.5.5).
		c.MaxPairs = min(max(int(binary.LittleEndian.Uint16(b[8:])), 1), maxPairs)
	}
	if f.Has(FeatureMTU) {
		c.MTU = binary.LittleEndian.Uint16(b[10:])
	}
	if f.Has(FeatureSpeedDuplex) {
		// virtio 1.2, 5.1.4: whatever is above 2^31-1 means unknown.
		if speed := binary.LittleEndian.Uint32(b[12:]); speed <= 1<<31-1 {
			c.Speed = speed
		}
		c.FullDuplex = b[16] == 1
	}
	return c
}

// maxPairs is the most queue pairs there can be (virtio 1.2, 5.1.4.1).
const maxPairs = 0x8000
