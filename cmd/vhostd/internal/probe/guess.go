package probe

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/vhostd/vhostd/vhost"
	"github.com/vhostd/vhostd/virtio"
)

// names are what --device takes.
var names = map[string]virtio.DeviceID{
	"net": virtio.Net, "blk": virtio.Block, "rng": virtio.Entropy, "vsock": virtio.Vsock, "fs": virtio.FS, "": unknown,
}

// ParseDevice reads a device's name; "" is a device to guess.
func ParseDevice(name string) (virtio.DeviceID, error) {
	id, ok := names[name]
	if !ok {
		return unknown, fmt.Errorf("no device is named %q: use net, blk, rng, vsock or fs", name)
	}
	return id, nil
}

func deviceName(id virtio.DeviceID) string {
	for name, other := range names {
		if other == id && name != "" {
			return name
		}
	}
	return "unknown"
}

// deviceBits are the bits that each device type has its own meaning for.
const deviceBits virtio.Features = 1<<24 - 1

// byFeatures guesses a device. The protocol has no message that says what it is:
// the front-end is configured with that.
func byFeatures(f virtio.Features, p protocol) (virtio.DeviceID, string) {
	const (
		mrgRxbuf, netMQ            = 1 << 15, 1 << 22
		segMax, blkSize, flush, mq = 1 << 2, 1 << 6, 1 << 9, 1 << 12
	)
	switch {
	case p&(vhost.ProtocolRARP|vhost.ProtocolMTU) != 0:
		return virtio.Net, "it offers RARP or MTU, which network devices have"
	case f&(mrgRxbuf|netMQ) != 0:
		return virtio.Net, "it offers mrg_rxbuf or mq"
	case f.Has(segMax|blkSize) || f.Has(flush|blkSize) || f.Has(segMax|mq):
		return virtio.Block, "it offers what block devices do: seg_max, blk_size, flush"
	case f&deviceBits == 0 && !p.Has(vhost.ProtocolConfig):
		return virtio.Entropy, "it offers nothing of its own, and has no configuration space"
	}
	return unknown, "nothing tells what it is: use --device"
}

// byConfig guesses a device from the first bytes of its configuration space.
func byConfig(b []byte) (virtio.DeviceID, string) {
	if len(b) < 8 {
		return unknown, "nothing tells what it is: use --device"
	}
	text := string(bytes.TrimRight(b[:8], "\x00"))
	printable := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) < 0
	switch cid := number(b[:8]); {
	case len(text) > 2 && printable:
		return virtio.FS, fmt.Sprintf("its configuration begins with the tag %q", text)
	case cid > 2 && cid < 1<<32-1: // virtio 1.2, 5.10.4: the others are reserved
		return virtio.Vsock, fmt.Sprintf("its configuration begins with the context number %d", cid)
	}
	return unknown, "nothing tells what it is: use --device"
}
