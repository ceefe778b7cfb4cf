package vhost

import (
	"fmt"
	"math/bits"
)

// ProtocolFeatures are what GET_PROTOCOL_FEATURES and SET_PROTOCOL_FEATURES
// agree on: abilities of the two ends, not of the device.
type ProtocolFeatures uint64

// The protocol features, as masks.
const (
	ProtocolMQ            ProtocolFeatures = 1 << 0
	ProtocolLogSHMFD      ProtocolFeatures = 1 << 1
	ProtocolRARP          ProtocolFeatures = 1 << 2
	ProtocolReplyAck      ProtocolFeatures = 1 << 3
	ProtocolMTU           ProtocolFeatures = 1 << 4
	ProtocolBackendReq    ProtocolFeatures = 1 << 5
	ProtocolCrossEndian   ProtocolFeatures = 1 << 6
	ProtocolCryptoSession ProtocolFeatures = 1 << 7
	ProtocolPageFault     ProtocolFeatures = 1 << 8
	ProtocolConfig        ProtocolFeatures = 1 << 9
	ProtocolBackendSendFD ProtocolFeatures = 1 << 10
	ProtocolHostNotifier  ProtocolFeatures = 1 << 11
	ProtocolInflightSHMFD ProtocolFeatures = 1 << 12
	ProtocolResetDevice   ProtocolFeatures = 1 << 13
	ProtocolInband        ProtocolFeatures = 1 << 14 // QEMU agrees to it and does not do it: never offer
	ProtocolMemSlots      ProtocolFeatures = 1 << 15
	ProtocolStatus        ProtocolFeatures = 1 << 16
	ProtocolXenMMAP       ProtocolFeatures = 1 << 17 // as 14
	ProtocolSharedObject  ProtocolFeatures = 1 << 18
	ProtocolDeviceState   ProtocolFeatures = 1 << 19
)

var protocolNames = [...]string{
	"MQ", "LOG_SHMFD", "RARP", "REPLY_ACK", "MTU", "BACKEND_REQ", "CROSS_ENDIAN", "CRYPTO_SESSION",
	"PAGEFAULT", "CONFIG", "BACKEND_SEND_FD", "HOST_NOTIFIER", "INFLIGHT_SHMFD", "RESET_DEVICE",
	"INBAND_NOTIFICATIONS", "CONFIGURE_MEM_SLOTS", "STATUS", "XEN_MMAP", "SHARED_OBJECT", "DEVICE_STATE",
	"GET_VRING_BASE_INFLIGHT", "GPA_ADDRESSES", "SHMEM", "GET_VRING_BASE_SKIP_DRAIN",
}

// Has tells whether every bit of q is in p.
func (p ProtocolFeatures) Has(q ProtocolFeatures) bool { return p&q == q }

// Names gives the specification's names of the bits, lowest first; a bit
// without one is "bit 40".
func (p ProtocolFeatures) Names() []string {
	var names []string
	for u := uint64(p); u != 0; u &= u - 1 {
		if i := bits.TrailingZeros64(u); i < len(protocolNames) {
			names = append(names, protocolNames[i])
		} else {
			names = append(names, fmt.Sprintf("bit %d", i))
		}
	}
	return names
}
