package virtio

import (
	"fmt"
	"sort"
	"strings"
)

// Features is a set of feature bits as GET_FEATURES carries them: device type
// bits, ring and transport bits, and two that are vhost's own.
type Features uint64

// Ring and transport features (virtio 1.2, 6), and the two bits that vhost
// put among them.
const (
	FeatureNotifyOnEmpty  Features = 1 << 24
	FeatureLogAll         Features = 1 << 26 // vhost: every write is logged
	FeatureAnyLayout      Features = 1 << 27
	FeatureIndirect       Features = 1 << 28
	FeatureEventIdx       Features = 1 << 29
	FeatureProtocol       Features = 1 << 30 // vhost-user: GET_PROTOCOL_FEATURES is served
	FeatureVersion1       Features = 1 << 32
	FeatureAccessPlatform Features = 1 << 33
	FeaturePacked         Features = 1 << 34
	FeatureInOrder        Features = 1 << 35
	FeatureOrderPlatform  Features = 1 << 36
	FeatureNotification   Features = 1 << 38
	FeatureRingReset      Features = 1 << 40
)

// DeviceID is a device type (virtio 1.2, 5).
type DeviceID uint32

// The device types this module knows by name.
const (
	Net     DeviceID = 1
	Block   DeviceID = 2
	Entropy DeviceID = 4
	Vsock   DeviceID = 19
	FS      DeviceID = 26
)

// Has says whether all bits of g are in f.
func (f Features) Has(g Features) bool { return f&g == g }

// common names the bits that mean the same for every device type.
var common = map[int]string{
	24: "notify_on_empty", 26: "log_all", 27: "any_layout", 28: "indirect_desc", 29: "event_idx",
	30: "protocol_features", 32: "version_1", 33: "access_platform", 34: "ring_packed", 35: "in_order",
	36: "order_platform", 37: "sr_iov", 38: "notification_data", 39: "notif_config_data", 40: "ring_reset", 41: "admin_vq",
}

// byDevice names the bits that belong to a device type.
var byDevice = map[DeviceID]map[int]string{
	Net: {
		0: "csum", 1: "guest_csum", 2: "ctrl_guest_offloads", 3: "mtu", 5: "mac", 7: "guest_tso4", 8: "guest_tso6",
		9: "guest_ecn", 10: "guest_ufo", 11: "host_tso4", 12: "host_tso6", 13: "host_ecn", 14: "host_ufo", 15: "mrg_rxbuf",
		16: "status", 17: "ctrl_vq", 18: "ctrl_rx", 19: "ctrl_vlan", 20: "ctrl_rx_extra", 21: "guest_announce", 22: "mq",
		23: "ctrl_mac_addr", 50: "device_stats", 51: "hash_tunnel", 52: "vq_notf_coal", 53: "notf_coal", 54: "guest_uso4",
		55: "guest_uso6", 56: "host_uso", 57: "hash_report", 59: "guest_hdrlen", 60: "rss", 61: "rsc_ext", 62: "standby",
		63: "speed_duplex",
	},
	Block: {
		1: "size_max", 2: "seg_max", 4: "geometry", 5: "ro", 6: "blk_size", 9: "flush", 10: "topology", 11: "config_wce",
		12: "mq", 13: "discard", 14: "write_zeroes", 15: "lifetime", 16: "secure_erase", 17: "zoned",
	},
	Vsock: {0: "stream", 1: "seqpacket", 2: "no_implied_stream"},
	FS:    {0: "notification"},
}

// Names gives the specification's names of the bits of f in ascending order,
// as devices of type id have them; a bit without a name is "bit N".
func (f Features) Names(id DeviceID) []string {
	var names []string
	for bit := range 64 {
		if f>>bit&1 == 0 {
			continue
		}
		name, ok := byDevice[id][bit]
		if !ok {
			name, ok = common[bit]
		}
		if !ok {
			name = fmt.Sprintf("bit %d", bit)
		}
		names = append(names, name)
	}
	return names
}

// ParseFeature gives the bit that devices of type id call name, in the
// specification's spelling in lower case ("mrg_rxbuf").
func ParseFeature(id DeviceID, name string) (Features, error) {
	var known []string
	for _, names := range []map[int]string{byDevice[id], common} {
		for bit, n := range names {
			if n == name {
				return 1 << bit, nil
			}
			known = append(known, n)
		}
	}
	sort.Strings(known)
	return 0, fmt.Errorf("no feature is named %q; the names are %s", name, strings.Join(known, ", "))
}
